"""Build the CPU kernels if there is a C compiler; the package installs without one too.

    pip install -e .                            builds them into the source tree
    python setup.py build_ext --inplace         builds them and does nothing else

The compiler's output is kept beside the library, in cpu_kernels.log; ``inna info`` shows it. With
INNA_REQUIRE_KERNELS=1 in the environment a failure stops the build, as for wheels.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

LIBRARY = "inna.torch.kernels.cpu_kernels"
FOLDER = Path("src/inna/torch/kernels")
LOG = "cpu_kernels.log"
# Without contraction, the bits of the result depend neither on the instruction set nor on the threads.
FLAGS = {
    "unix": "-std=c11 -O2 -g0 -ftree-vectorize -ffp-contract=off -fno-math-errno -fno-trapping-math "
    "-fvisibility=hidden",
    "msvc": "/std:c11 /O2 /fp:precise",
}
# (compiler flags, linker flags), tried in turn. Apple's clang has no libomp; without it the kernels use one thread.
THREADING = {
    "unix": [("-fopenmp", "-fopenmp"), ("-Xpreprocessor -fopenmp", "-lomp"), ("-fopenmp-simd", ""), ("", "")],
    "msvc": [("/openmp", ""), ("", "")],
}


class BuildKernels(build_ext):
    """Build a plain shared library, which ctypes loads."""

    def get_ext_filename(self, fullname: str) -> str:
        # Not a suffix of Python's extension modules.
        return str(Path(*fullname.split("."))) + {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so.2")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []  # There is no PyInit function.

    def build_extension(self, ext: Extension) -> None:
        library = Path(self.get_ext_fullpath(ext.name))
        log = library.with_name(LOG)
        output: list[str] = []

        def run(command: list[str], **_: object) -> None:
            output.append(_run(command, getattr(self.compiler, "_paths", None)))

        # Setuptools has renamed the method that runs a command.
        self.compiler.spawn = self.compiler.call = run
        kind = self.compiler.compiler_type if self.compiler.compiler_type in FLAGS else "unix"
        failures = []
        for threading, linking in THREADING[kind]:
            ext.extra_compile_args = [*FLAGS[kind].split(), *threading.split()]
            ext.extra_link_args = linking.split()
            try:
                super().build_extension(ext)
            except Exception as error:  # Compilers fail in many ways, and none must stop the install.
                failures.append(f"{error}\n")
                continue
            break
        else:
            if os.environ.get("INNA_REQUIRE_KERNELS") == "1":
                raise RuntimeError("the CPU kernels do not compile:\n" + "".join(failures))
            library.unlink(missing_ok=True)
            self.warn("the CPU kernels do not compile; inna works without them, see cpu_kernels.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join([*failures, *output]), encoding="utf-8")

    def copy_extensions_to_source(self) -> None:
        for ext in self.extensions:
            built = Path(self.build_lib, self.get_ext_filename(ext.name))
            for path in (built, built.with_name(LOG)):
                target = FOLDER / path.name
                if path.exists():
                    # A running process may have mapped the old library, so it is replaced instead of overwritten.
                    partial = target.with_name(target.name + ".part")
                    self.copy_file(str(path), str(partial))
                    partial.replace(target)
                else:
                    target.unlink(missing_ok=True)


class PlatformWheel(bdist_wheel):
    """Tag the wheel for all versions of Python: the library does not depend on Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def sources_digest() -> str:
    """SHA-256 of the kernels' sources, by which inna recognizes a library of others."""
    digest = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.[ch]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _run(command: list[str], paths: str | None) -> str:
    environment = {**os.environ, **({"PATH": paths} if paths else {})}
    line = subprocess.list2cmdline([str(part) for part in command])
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise RuntimeError(f"$ {line}\n{error}") from error
    if done.returncode:
        raise RuntimeError(f"$ {line}\n{done.stdout}{done.stderr}exit status {done.returncode}")
    return f"$ {line}\n{done.stdout}{done.stderr}"


setup(
    ext_modules=[
        Extension(
            LIBRARY,
            sources=[(FOLDER / "cpu_kernels.c").as_posix()],
            depends=[(FOLDER / name).as_posix() for name in ("cpu_codes.h", "cpu_rule.h")],
            define_macros=[("INNA_SOURCES", sources_digest())],
            libraries=[] if sys.platform == "win32" else ["m"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
