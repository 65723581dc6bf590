"""The built wheel, installed alone, validates a shipped recipe: nothing lives in the checkout only."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def _run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_recipes_and_schemas_and_works_by_itself(tmp_path):
    source = tmp_path / "source"
    tracked = _run("git", "ls-files", cwd=ROOT).stdout.split() or [
        str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()
    ]
    for name in tracked:
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    built = _run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, cwd=source)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("trace_recipe-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert f"trace_recipe/_data/recipes/{path.name}" in names
    for path in (ROOT / "schema").glob("*.json"):
        assert f"trace_recipe/_data/schema/{path.name}" in names
    for path in (ROOT / "systemd").iterdir():
        assert f"trace_recipe/_data/systemd/{path.name}" in names

    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    installed = _run(home / "bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    done = _run(home / "bin/trace-recipe", "validate", "mount-audit", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("_data/recipes/mount-audit.yaml: ok\n")
