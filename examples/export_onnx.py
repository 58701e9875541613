"""Export a network: `to_plain` replaces the layers by plain convolutions with expanded filters, which ONNX can hold."""

import tempfile
from pathlib import Path

import onnxruntime
import torch

import gcnn_kernels as gk


def main() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        gk.nn.LiftingConv2d(3, 16, 5, padding=2, group="c8"),
        gk.nn.GroupBatchNorm2d(16, activation="relu"),
        gk.nn.GroupConv2d(16, 16, 5, padding=2, group="c8"),
        gk.nn.GroupMaxPool(),
    ).eval()
    x = torch.randn(1, 3, 32, 32)
    plain = gk.to_plain(net)
    torch.testing.assert_close(plain(x), net(x), rtol=1e-4, atol=1e-5)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        torch.onnx.export(plain, (x,), file, dynamo=True, external_data=False)
        session = onnxruntime.InferenceSession(file)
        (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        size = file.stat().st_size
    torch.testing.assert_close(torch.from_numpy(output), net(x).detach(), rtol=1e-4, atol=1e-5)
    exported = torch.export.export(plain, (x,))
    torch.testing.assert_close(exported.module()(x), net(x), rtol=1e-4, atol=1e-5)
    print(f"ONNX ({size:,} bytes) and torch.export give the network's output")


if __name__ == "__main__":
    main()
