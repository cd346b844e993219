"""The Slicer module: the four classes Slicer asks for; they only connect the rooms of ScaleEquivSegLib."""

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class ScaleEquivSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("ScaleEquivSeg")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations"]
        parent.contributors = ["ScaleEquivSeg contributors"]
        parent.helpText = _(
            "Segments a volume with a scale-equivariant 3D U-Net and with an ordinary one and shows "
            "where they differ. "
            "For research use only; not for diagnosis or treatment."
        )
        parent.acknowledgementText = _(
            "After Wimmer et al., Scale-Equivariant Deep Learning for 3D Data (arXiv:2304.05864, 2023), and "
            "Li, Cao, Cao, A Dynamic Group Equivariant Convolutional Networks for Medical Image Analysis (BIBM 2020)."
        )


class ScaleEquivSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Hosts the panel and tells it of the scene."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.panel = None
        self._parameters = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        from ScaleEquivSegLib.panel.panel import Panel

        uiWidget = slicer.util.loadUI(self.resourcePath("UI/ScaleEquivSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ScaleEquivSegLogic()
        self.panel = Panel(self.ui)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        # The end of the batch, not of the import: only then do the selectors know the imported nodes.
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndBatchProcessEvent, self.onSceneEndBatch)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAboutToBeRemovedEvent, self.onNodeAboutToBeRemoved)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.bindParameters()

    def cleanup(self):
        self.removeObservers()
        if self.panel is not None:  # None if setup failed: that error is the one to see
            self.panel.stop(_("The module was closed."))
            self.panel.bind(None)
            self.panel.close()

    def enter(self):
        # Bound until the scene closes, also while another module is open: a run may end there.
        self.bindParameters()

    def onSceneStartClose(self, caller, event):
        self.panel.stop(_("The scene was closed during the run; the result was discarded."))
        self.unbindParameters()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.bindParameters()

    def onSceneEndBatch(self, caller, event):
        if self._parameters is not None:
            self._parameters.parameterNode.Modified()

    def onNodeAdded(self, caller, event):
        self.panel.refresh_soon()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node):
        self.panel.forget_node(node)

    def onNodeRemoved(self, caller, event):
        # A parameter that named the node keeps it in Slicer's cache until it is read anew.
        self.onSceneEndBatch(caller, event)

    def bindParameters(self):
        if self._parameters is None:
            self._parameters = self.logic.getParameterNode()
            self.panel.bind(self._parameters)
            self.addObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)

    def unbindParameters(self):
        if self._parameters is not None:
            self.removeObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self._parameters = None
            self.panel.bind(None)

    def onParametersModified(self, caller, event):
        self.panel.refresh()


class ScaleEquivSegLogic(ScriptedLoadableModuleLogic):
    """For scripts and notebooks inside Slicer; API.md has examples.

    What the panel does beside Slicer is done here and now: each call returns when it is done, and raises one of the
    types in ScaleEquivSegLib/errors.py if it cannot be, with the scene as it was. `progress` is called with the phase
    and the fraction of it that is done; raise `Cancelled` in it to stop. A bundle is named, or given by its folder.
    Further settings are those of `ScaleEquivSegLib.segmentation.Settings`.
    """

    def getParameterNode(self):
        from ScaleEquivSegLib.panel.parameters import ScaleEquivSegParameterNode

        return ScaleEquivSegParameterNode(super().getParameterNode())

    def segment(
        self, volumeNode, bundle, device="auto", region=None, output=None, progress=lambda *step: None, **settings
    ):
        """Segment a volume, or a list of one for each channel; returns the segmentation node.

        With a Markups ROI as region there are labels in it alone. What an existing output holds is replaced.
        """
        from ScaleEquivSegLib.scripting import segment

        return segment(volumeNode, bundle, region, output, progress, {"device": device, **settings})

    def compare(self, segmentationA, segmentationB, reference=None, progress=lambda *step: None):
        """Compare two segmentations of one volume; returns the table node and a list of maps.

        The first map shows where they agree, two more the errors of each against the reference, if there is one.
        """
        from ScaleEquivSegLib.scripting import compare

        return compare(segmentationA, segmentationB, reference, progress)

    def sweep(
        self,
        volumeNode,
        bundles,
        scales=(0.5, 0.7, 1.0, 1.4, 2.0),
        reference=None,
        device="auto",
        progress=lambda *step: None,
        **settings,
    ):
        """Segment a volume at several scales with some bundles; returns the table node and the chart node of Dice."""
        from ScaleEquivSegLib.scripting import sweep

        return sweep(volumeNode, bundles, scales, reference, progress, {"device": device, **settings})


class ScaleEquivSegTest(ScriptedLoadableModuleTest):
    """Runs inside Slicer: a phantom through the module's logic, where PyTorch is installed."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_a_phantom_comes_back_labelled_on_its_own_grid()

    def test_a_phantom_comes_back_labelled_on_its_own_grid(self):
        from ScaleEquivSegLib.bundles import bundled_models
        from ScaleEquivSegLib.comparison import dice
        from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom

        self.delayDisplay("Segmenting a phantom")
        phantom = make_phantom(PhantomSpec(seed=200_000))
        volume = slicer.util.addVolumeFromArray(
            phantom.channels[0].array, phantom.labels.geometry.ijk_to_ras, name="phantom"
        )
        node = ScaleEquivSegLogic().segment(volume, bundled_models() / "phantom-se_unet")
        for value in (1, 2):
            found = slicer.util.arrayFromSegmentBinaryLabelmap(node, f"Segment_{value}", volume) > 0
            self.assertGreater(dice(found, phantom.labels.array == value), 0.9)
        self.delayDisplay("Test passed")
