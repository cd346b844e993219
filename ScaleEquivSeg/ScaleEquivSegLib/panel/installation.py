"""Installing what computing needs beyond Slicer: on a click, after one question, through Slicer's own means."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import slicer
from slicer.i18n import tr as _

from ..errors import MissingPackage
from ..requirements import Requirement, check_packages

EXTENSION = "PyTorch"
TORCH = "torch"


def question(requirements: Sequence[Requirement], problems: Sequence[Exception]) -> str:
    """What the user is asked before anything is installed; the problems are those with the requirements, in order."""
    # What to do by hand is not for somebody who is offered to have it done.
    causes = [
        str(problem).removesuffix(each.how_to_install).rstrip(".:; ") + "."
        for each, problem in zip(requirements, problems, strict=True)
    ]
    sizes = {TORCH: _("about 200 MB, or up to 2.5 GB with an NVIDIA GPU"), "safetensors": _("about 1 MB")}
    parts = ", ".join(f"{each.title} ({sizes[each.package]})" for each in requirements)
    return "\n\n".join(
        [
            _("Computing needs Python packages that are missing or do not fit: {parts}.").format(parts=parts),
            *causes,
            *([_of_extension()] if any(each.package == TORCH for each in requirements) else []),
            _(
                "They will be downloaded and installed into this Slicer; that can take several minutes, in which "
                "Slicer may not respond. Everything else works without them. Install them now?"
            ),
        ]
    )


def _of_extension() -> str:
    """What PyTorch is installed through."""
    try:
        is_here = importlib.util.find_spec("PyTorchUtils") is not None
    except ValueError:  # it is loaded already, and not by Python's own means
        is_here = True
    if is_here:
        return _("PyTorch is installed through Slicer's {name} extension.").format(name=EXTENSION)
    return _(
        "PyTorch is installed through Slicer's {name} extension, which is installed first: Slicer must be restarted "
        "after that, and asks once more."
    ).format(name=EXTENSION)


def install(requirements: Sequence[Requirement], tell: Callable[[str], None]) -> None:
    """Install what is missing; whatever goes wrong is one error that says what to do.

    The small package comes first: the large one may end in a restart.
    """
    for requirement in sorted(requirements, key=lambda each: each.package == TORCH):
        tell(
            _("Installing {title}; this can take minutes, in which Slicer may not respond…").format(
                title=requirement.title
            )
        )
        try:
            _install_torch(requirement) if requirement.package == TORCH else _install_package(requirement)
        except MissingPackage:
            raise
        except Exception as error:  # whatever pip, Slicer and other extensions raise
            raise MissingPackage(
                _(
                    "{title} could not be installed: {error}. The Python console says more. Check the network and the "
                    "space on the disk, restart Slicer, and press the button again; or install it by hand: {how}"
                ).format(title=requirement.title, error=error, how=requirement.how_to_install)
            ) from error
    importlib.invalidate_caches()
    check_packages()


def _install_package(requirement: Requirement) -> None:
    try:
        from slicer.packaging import pip_ensure
    except ImportError:  # before Slicer 5.12
        slicer.util.pip_install([requirement.bounds])
    else:
        pip_ensure([requirement.bounds], prompt_install=False, requester="ScaleEquivSeg")


def _install_torch(requirement: Requirement) -> None:
    """Through the PyTorch extension, which knows which build fits this machine."""
    try:
        import PyTorchUtils
    except ModuleNotFoundError:
        _install_extension()
        raise MissingPackage(
            _(
                "The {name} extension was installed. Restart Slicer, then press the button again to go on with PyTorch "
                "itself."
            ).format(name=EXTENSION)
        ) from None
    logic = PyTorchUtils.PyTorchUtilsLogic()
    version = requirement.bounds.removeprefix(requirement.package)
    if logic.installTorch(askConfirmation=False, torchVersionRequirement=version) is None:
        raise RuntimeError(_("the PyTorch extension did not install it"))


def _install_extension() -> None:
    model = slicer.app.extensionsManagerModel()
    was_interactive = model.interactive
    model.interactive = False  # the user has been asked already
    try:
        installed = model.installExtensionFromServer(EXTENSION, False)
    finally:
        model.interactive = was_interactive
    if not installed:
        raise MissingPackage(
            _(
                "Slicer's {name} extension is needed and could not be installed. Check the network, or install it in "
                "the Extensions Manager; restart Slicer, and press the button again."
            ).format(name=EXTENSION)
        )
