"""Check that a wheel ships `ssl_as_inference` alone, and that it imports where the training stack is not installed."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

BLOCKED = ("lightning", "pytorch_lightning", "torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib", "mpmath")

PROBE = f"""
import sys
for name in {BLOCKED!r}:
    sys.modules[name] = None  # importing it now raises ImportError
import ssl_as_inference, ssl_as_inference.distributions, ssl_as_inference.graphical_model, ssl_as_inference.special
print("imported", ssl_as_inference.__version__, "from", ssl_as_inference.__file__)
"""


def main(wheel: Path) -> int:
    """Return 0 if the wheel is as it should be."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        foreign = sorted({name.split("/")[0] for name in names if not name.startswith("ssl_as_inference")})
        if foreign:
            print(f"the wheel should hold ssl_as_inference alone, it also holds {foreign}")
            return 1
        sources = {str(path.as_posix()) for path in Path("ssl_as_inference").rglob("*.py")}
        missing = sorted(sources - set(names)) + ([] if "ssl_as_inference/py.typed" in names else ["py.typed"])
        if missing:
            print(f"the wheel lacks {missing}")
            return 1
        with tempfile.TemporaryDirectory() as folder:
            archive.extractall(folder)
            # -P and another working directory: what is imported is the wheel's content, not this checkout.
            run = subprocess.run(
                [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {folder!r})\n{PROBE}"],
                cwd=folder,
                check=False,
            )
    return run.returncode


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
