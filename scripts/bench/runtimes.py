"""onnxruntime, OpenVINO and ncnn, as torch_worker.py runs them: in f32, on inputs of a fixed size, and with outputs that
are left where the program writes them."""

import functools
import os

from torch_detector import THREADS, timed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@functools.cache
def onnx_session(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.log_severity_level = 3
    # Its threads must not keep spinning during foveal's turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Onnxruntime:
    """A session whose inputs and outputs are bound, so that no result is copied into a new array."""

    def __init__(self, path, images):
        self.session = onnx_session(path)
        self.bound = self.session.io_binding()
        self.bound.bind_cpu_input("images", images)
        for output in self.session.get_outputs():
            self.bound.bind_output(output.name)

    def run(self):
        self.session.run_with_iobinding(self.bound)

    def output(self, index):
        return self.bound.copy_outputs_to_cpu()[index]


class OpenVino:
    """A model of static shape, compiled for low latency, and without bf16."""

    def __init__(self, path, images):
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        model.reshape({"images": list(images.shape)})
        compiled = core.compile_model(model, "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(THREADS),
        })
        self.request, self.images = compiled.create_infer_request(), images
        self.request.set_tensor("images", openvino.Tensor(images, shared_memory=True))

    def run(self):
        self.request.start_async()
        self.request.wait()

    def output(self, index):
        return self.request.get_output_tensor(index).data


class Ncnn:
    """A network that pnnx converted with weights of f32."""

    def __init__(self, path, images):
        import ncnn

        self.ncnn, self.net = ncnn, ncnn.Net()
        options = self.net.opt
        options.num_threads = THREADS
        options.use_winograd_convolution = options.use_sgemm_convolution = options.use_packing_layout = True
        for kind in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
            setattr(options, f"use_{kind}", False)
        if self.net.load_param(f"{path}.param") or self.net.load_model(f"{path}.bin"):
            raise RuntimeError(f"ncnn could not load {path}")
        self.images = ncnn.Mat(images[0]).clone()

    def run(self):
        extractor = self.net.create_extractor()
        extractor.input("in0", self.images)
        self.found = [extractor.extract(f"out{index}")[1] for index in range(2)]

    def output(self, index):
        import numpy

        return numpy.array(self.found[index])


RUNTIMES = {"onnxruntime": (Onnxruntime, ".onnx"), "openvino": (OpenVino, ".onnx"), "ncnn": (Ncnn, ".ncnn")}


@functools.cache
def opened(runtime, model, reference):
    """The network of a raw case on the images of the reference file."""
    import numpy
    import reference as files

    kind, suffix = RUNTIMES[runtime]
    return kind(model + suffix, numpy.array(files.read(reference)["images"]))


def run_raw(request):
    """Runs the network that `export` wrote, on the images of the reference."""
    import reference

    network = opened(request["runtime"], request["model"], request["reference"])
    network.run()
    apart = reference.apart(request["reference"], network.output(0), network.output(1))
    return {"ms": timed(request["steps"], request["warmup"], network.run), "apart": apart}


@functools.cache
def detector(runtime, model, batch, size):
    """The detector on noise with the scale of the network's input."""
    import numpy as np

    noise = np.random.default_rng(0).standard_normal((batch, 3, size, size), dtype=np.float32)
    mean, std = (np.array(v, dtype=np.float32).reshape(1, 3, 1, 1) for v in (MEAN, STD))
    return RUNTIMES[runtime][0](model, noise * std + mean)


def run_detector(request):
    """Runs the file that foveal exported, with suppression in the graph."""
    network = detector(request["runtime"], request["model"], request["batch"], request["size"])
    network.run()
    found = len(network.output(0))
    return {"ms": timed(request["steps"], request["warmup"], network.run), "detections": found}


def export(request):
    """Writes torchvision's network with the weights of the reference as `out`.onnx and, for ncnn, `out`.ncnn.param and
    .bin, where they do not exist. `out` is named after the weights. Frozen norms become batch norms, which converters
    fold into convolutions."""
    import tempfile
    from pathlib import Path

    import torch_detector

    torch, out = torch_detector.torch(), request["out"]
    # The last file of a kind is written last, so that it stands for all.
    files = {"onnx": [".onnx"], "ncnn": [".ncnn.param", ".ncnn.bin"]}
    missing = [kind for kind in request["kinds"] if not Path(out + files[kind][-1]).exists()]
    if not missing:
        return {}
    model = torch_detector.build(request["backbone"], request["classes"], 0).eval()
    images = torch_detector.load(model, request)
    network = raw_network(model, request["classes"])
    with torch.no_grad(), tempfile.TemporaryDirectory(dir=Path(out).parent) as folder:
        part = f"{folder}/network"
        for kind in missing:
            if kind == "onnx":
                torch.onnx.export(network, (images,), f"{part}.onnx", dynamo=False, input_names=["images"],
                                  output_names=["logits", "deltas"])
            else:
                import pnnx

                pnnx.export(network, f"{part}.pt", (images,), fp16=False)
            for suffix in files[kind]:
                os.replace(part + suffix, out + suffix)
    return {}


def raw_network(model, classes):
    """torchvision's backbone and heads with rows in its order, in operations that all converters know."""
    import torch
    from torchvision.ops.misc import FrozenBatchNorm2d

    def plain(module):
        for name, child in module.named_children():
            if isinstance(child, FrozenBatchNorm2d):
                norm = torch.nn.BatchNorm2d(child.weight.numel(), eps=child.eps)
                norm.load_state_dict({**child.state_dict(), "num_batches_tracked": torch.tensor(0)})
                setattr(module, name, norm.eval())
            else:
                plain(child)

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = model.backbone
            self.classes, self.boxes = model.head.classification_head, model.head.regression_head

        def forward(self, images):
            levels = list(self.backbone(images).values())
            logits = [self.classes.cls_logits(self.classes.conv(level)) for level in levels]
            deltas = [self.boxes.bbox_reg(self.boxes.conv(level)) for level in levels]
            rows = [torch.cat([level.permute(0, 2, 3, 1).reshape(1, -1, width) for level in found], dim=1)
                    for found, width in ((logits, classes), (deltas, 4))]
            return tuple(rows)

    plain(model)
    return Network().eval()
