"""The Slicer module: the four classes Slicer asks for; they only connect the rooms of ScaleEquivSegLib."""

import os
import sys
import time
import unittest

import numpy as np
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
        parent.dependencies = ["Segmentations", "Markups", "Sequences", "Cameras"]
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
        slicer.app.connect("startupCompleted()", self.registerSampleData)
        slicer.app.connect("startupCompleted()", self.registerLayouts)

    def registerSampleData(self):
        """Samples for Slicer's module of that name. It wants an address, also of those that are made here."""
        import SampleData

        from ScaleEquivSegLib.mrml.samples import HIPPOCAMPUS, SAMPLES, load_sample

        for name in (*SAMPLES, HIPPOCAMPUS):
            SampleData.SampleDataLogic.registerCustomSampleDataSource(
                category=_("ScaleEquivSeg"),
                sampleName=name,
                uris="",
                fileNames=f"{name}.nrrd",
                customDownloader=lambda source: load_sample(source.sampleName),
                thumbnailFileName=self.resourcePath("Icons/ScaleEquivSeg.png"),
            )

    def registerLayouts(self):
        """A scene may have been saved in one of the module's layouts, and be opened before the module is; and Slicer
        starts in the layout in which it was quit, though there is nothing to show in those."""
        from ScaleEquivSegLib.mrml.layouts import add_layouts, leave_layouts

        add_layouts()
        if not slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLVolumeNode"):
            leave_layouts()


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
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartBatchProcessEvent, self.onSceneStartBatch)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndBatchProcessEvent, self.onSceneEndBatch)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        # Before the selectors, which choose the next node in their list for one that goes.
        about_to_remove = slicer.mrmlScene.NodeAboutToBeRemovedEvent
        self.addObserver(slicer.mrmlScene, about_to_remove, self.onNodeAboutToBeRemoved, priority=1000.0)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        self.bindParameters()

    def cleanup(self):
        self.removeObservers()
        if self.panel is not None:  # None if setup failed: that error is the one to see
            self.panel.stop(_("The module was closed."))
            self.panel.bind(None)
            self.panel.close()

    def onReload(self):
        # Slicer executes this file anew and no other; what has been imported of the library would stay as it was.
        for name in [name for name in sys.modules if name.partition(".")[0] == "ScaleEquivSegLib"]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        # Bound until the scene closes, also while another module is open: a run may end there.
        self.bindParameters()
        self.panel.look_again()

    def onSceneStartClose(self, caller, event):
        self.panel.stop(_("The scene was closed during the run; the result was discarded."))
        self.panel.leave_layouts()  # the way back to the user's would go with the scene
        self.unbindParameters()

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered or self.parent.visible:  # a second widget of the module is never entered
            self.bindParameters()

    def onSceneStartBatch(self, caller, event):
        self.panel.hold()

    def onSceneEndBatch(self, caller, event):
        self.panel.release_soon()

    def onNodeAdded(self, caller, event):
        self.panel.refresh_soon()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAboutToBeRemoved(self, caller, event, node):
        self.panel.forget_node(node)

    def onNodeRemoved(self, caller, event):
        self.panel.refresh_soon()

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

    def compare(self, segmentationA, segmentationB, reference=None, progress=lambda *step: None, volumeNode=None):
        """Compare two segmentations of one volume; returns the table node and a list of maps.

        The first map shows where they agree, two more the errors of each against the reference, if there is one. The
        volume need not be given unless neither segmentation names it, as is so with those loaded from files.
        """
        from ScaleEquivSegLib.scripting import compare

        return compare(segmentationA, segmentationB, reference, volumeNode, progress)

    def sweep(
        self,
        volumeNode,
        bundles,
        scales=(0.5, 0.7, 1.0, 1.4, 2.0),
        reference=None,
        device="auto",
        region=None,
        progress=lambda *step: None,
        **settings,
    ):
        """Segment a volume at several scales with some bundles; returns the table node and the chart node of Dice.

        With a Markups ROI as region only what is inside counts.
        """
        from ScaleEquivSegLib.scripting import sweep

        return sweep(volumeNode, bundles, scales, reference, region, progress, {"device": device, **settings})


class ScaleEquivSegTest(ScriptedLoadableModuleTest):
    """Runs inside Slicer: the logic and the panel, on small phantoms. What computes is skipped without PyTorch."""

    SIZE_AND_SPACING = (40, 44, 36), (1.25, 1.2, 1.4)

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        names, skipped = unittest.TestLoader().getTestCaseNames(type(self)), []
        for name in names:
            self.delayDisplay(name.replace("_", " "))
            self.setUp()
            try:
                getattr(self, name)()
            except unittest.SkipTest as reason:
                skipped.append(str(reason))
                self.delayDisplay(f"Skipped: {reason}")
        if skipped:
            self.delayDisplay(f"{len(skipped)} of {len(names)} tests were SKIPPED, the others passed. {skipped[0]}")
        else:
            self.delayDisplay("Every test passed")

    def test_labels_are_imported_voxel_for_voxel_onto_the_grid_of_an_oblique_volume_under_a_transform(self):
        volume, exact = self.transformedPhantom()
        self.assertLiesOnTheGridOf(volume, exact)
        labels = self.makePhantom(*self.SIZE_AND_SPACING).labels.array
        for value, part in enumerate(("Segment_1", "Segment_2"), 1):
            np.testing.assert_array_equal(self.mask(exact, part, volume), labels == value)

    def test_a_run_finds_what_is_in_an_oblique_volume_under_a_transform(self):
        from ScaleEquivSegLib.comparison import dice

        self.skipIfItCannotCompute()
        volume, exact = self.transformedPhantom()
        found = ScaleEquivSegLogic().segment(volume, "phantom-se_unet")
        self.assertLiesOnTheGridOf(volume, found)
        for part in ("Segment_1", "Segment_2"):
            self.assertGreater(dice(self.mask(found, part, volume), self.mask(exact, part, volume)), 0.8)

    def test_a_comparison_has_the_right_figures_and_the_right_map(self):
        from ScaleEquivSegLib.comparison import dice

        volume, exact = self.phantom(size=(32, 32, 32), spacing=(2, 2, 2))
        _same, moved = self.phantom(size=(32, 32, 32), spacing=(2, 2, 2), volume=volume, shift=2)
        table, (agreement,) = ScaleEquivSegLogic().compare(exact, moved)
        for row, part in enumerate(["Segment_1", "Segment_2"]):
            masks = [self.mask(node, part, volume) for node in (exact, moved)]
            self.assertAlmostEqual(float(table.GetCellText(row, 2)), dice(*masks), places=4)
        a, b = (self.mask(node, "Segment_1", volume) | self.mask(node, "Segment_2", volume) for node in (exact, moved))
        np.testing.assert_array_equal(self.mask(agreement, "Segment_1", volume), a & ~b)
        np.testing.assert_array_equal(self.mask(agreement, "Segment_2", volume), b & ~a)

    def test_a_sweep_has_a_curve_for_each_network_that_agrees_with_itself(self):
        self.skipIfItCannotCompute()
        volume, _exact = self.phantom(size=(24, 24, 24), spacing=(1, 1, 1))
        table, chart = ScaleEquivSegLogic().sweep(volume, ["phantom-se_unet", "phantom-unet"], scales=[0.8, 1.0])
        self.assertEqual(chart.GetNumberOfPlotSeriesNodes(), 2)
        self.assertEqual([float(table.GetCellText(1, column)) for column in range(table.GetNumberOfColumns())], [1] * 7)

    def test_the_panel_chooses_a_volume_that_is_loaded_and_its_task(self):
        slicer.util.selectModule("ScaleEquivSeg")
        panel = slicer.util.getModuleWidget("ScaleEquivSeg")
        volume, _exact = self.phantom(size=(8, 8, 8), spacing=(2, 2, 2))
        self.wait(lambda: list(panel.logic.getParameterNode().inputVolumes) == [volume])
        self.assertEqual(panel.ui.taskSelector.currentText, "phantom")
        self.assertTrue(panel.ui.segmentButton.enabled)

    def test_a_run_of_the_panel_can_be_cancelled_and_the_next_one_ends_with_a_result(self):
        self.skipIfItCannotCompute()
        slicer.util.selectModule("ScaleEquivSeg")
        panel = slicer.util.getModuleWidget("ScaleEquivSeg")
        panel.ui.taskSelector.currentText = "phantom"
        panel.ui.networkSelector.currentText = "Baseline"
        noise = np.random.default_rng(0).normal(1000, 100, (96, 96, 96)).astype(np.int16)
        panel.logic.getParameterNode().inputVolumes = [slicer.util.addVolumeFromArray(noise, name="noise")]
        panel.ui.segmentButton.click()
        self.wait(lambda: "Segmenting" in panel.ui.statusLabel.text)
        panel.ui.cancelButton.click()
        self.wait(lambda: not panel.ui.cancelButton.enabled, seconds=3)
        self.assertEqual(panel.ui.statusLabel.text, "Cancelled.")
        self.assertFalse(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"))

        volume, _exact = self.phantom(size=(32, 32, 32), spacing=(1.5, 1.5, 1.5))
        panel.logic.getParameterNode().inputVolumes = [volume]
        panel.ui.segmentButton.click()
        self.wait(lambda: not panel.ui.cancelButton.enabled)
        self.assertEqual(panel.ui.statusLabel.text, "Done.")
        found = panel.logic.getParameterNode().baselineResult
        self.assertTrue(self.mask(found, "Segment_1", volume).any())
        self.assertEndsWithoutOrphan(panel.panel)

    def assertEndsWithoutOrphan(self, panel):
        """The process that has computed is gone when the panel stops, also where a launcher stands in between."""
        pid = panel.desk.worker.pid
        self.assertGreater(pid, 0)
        panel.stop("")
        self.assertFalse(self.isRunning(pid))

    def isRunning(self, pid):
        if os.name != "posix":
            return False  # on Windows to ask for a process is to end it
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    def skipIfItCannotCompute(self):
        from ScaleEquivSegLib.errors import SegmentationError
        from ScaleEquivSegLib.requirements import check_packages

        try:
            check_packages()
        except SegmentationError as error:
            self.skipTest(str(error))

    def makePhantom(self, size, spacing):
        from ScaleEquivSegLib.phantom import PhantomSpec, make_phantom

        direction = ((0.8, -0.48, -0.36), (0.6, 0.64, 0.48), (0.0, 0.6, -0.8))  # oblique and left-handed
        return make_phantom(PhantomSpec(seed=200_005, size=size, spacing=spacing, direction=direction))

    def phantom(self, size, spacing, volume=None, shift=0):
        """A phantom and its exact segmentation, or another segmentation of one that is there, moved by some voxels."""
        from ScaleEquivSegLib.bundles import bundle_named
        from ScaleEquivSegLib.mrml.segmentations import import_segmentation
        from ScaleEquivSegLib.volume import Volume

        phantom = self.makePhantom(size, spacing)
        image = phantom.channels[0]
        if volume is None:
            volume = slicer.util.addVolumeFromArray(image.array, image.geometry.ijk_to_ras, name="phantom")
        labels = Volume(np.roll(phantom.labels.array, shift, 2), image.geometry)
        return volume, import_segmentation(labels, bundle_named("phantom-unet").labels, volume, f"moved by {shift}")

    def transformedPhantom(self):
        """An oblique phantom turned by a transform, and its exact segmentation, imported there."""
        volume, _untransformed = self.phantom(*self.SIZE_AND_SPACING)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.diag([-1.0, -1.0, 1.0, 1.0])))
        volume.SetAndObserveTransformNodeID(transform.GetID())
        return self.phantom(*self.SIZE_AND_SPACING, volume)

    def assertLiesOnTheGridOf(self, volume, segmentation):
        labels = segmentation.GetSegmentation().GetSegment("Segment_1").GetRepresentation("Binary labelmap")
        of_labels, of_volume = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
        labels.GetImageToWorldMatrix(of_labels)
        volume.GetIJKToRASMatrix(of_volume)
        np.testing.assert_allclose(*map(slicer.util.arrayFromVTKMatrix, (of_labels, of_volume)), rtol=0, atol=1e-9)
        self.assertIs(segmentation.GetParentTransformNode(), volume.GetParentTransformNode())

    def mask(self, node, part, volume):
        """The voxels of a segment on the volume's grid."""
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, part, volume) > 0

    def wait(self, condition, seconds=300):
        """Let Slicer go on until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), end, "it takes too long")
            slicer.app.processEvents()
            time.sleep(0.01)
