"""The static site of the reference results."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def site(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "results/site.py", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_a_site_has_a_page_of_each_sweep_and_an_index(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").write_text("the documentation")
    (tmp_path / "results" / "gone").mkdir(parents=True)
    done = site(str(tmp_path), "enlarged", "mnist_noise")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["enlarged", "mnist_noise"]
    index = (tmp_path / "index.html").read_text()
    links = re.findall(r'(?:href|src)="([^"]+)"', index)
    assert {"results/enlarged/index.html", "results/mnist_noise/index.html", "docs/index.html"} < {*links}
    assert all((tmp_path / link).is_file() for link in links) and not re.search(r"https?:", index)
    for name in ("enlarged", "mnist_noise"):
        page = (tmp_path / "results" / name / "index.html").read_text()
        assert "so this page has tables and charts only" in page and 'id="answer"' in page
        committed = ROOT / "results" / "reference" / name / "report" / "table.csv"
        assert (tmp_path / "results" / name / "table.csv").read_text() == committed.read_text()


def test_the_index_links_no_documentation_that_is_not_there(tmp_path):
    assert site(str(tmp_path), "enlarged").returncode == 0
    assert "docs/" not in (tmp_path / "index.html").read_text()


def test_a_wrong_call_is_one_line(tmp_path):
    for arguments, message in (((), "usage"), ((str(tmp_path), "nothing"), "no sweep nothing; usage")):
        done = site(*arguments)
        assert done.returncode == 1 and done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1


def test_make_builds_the_site_with_what_it_needs():
    if make := shutil.which("make"):
        done = subprocess.run([make, "--dry-run", "site"], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and "results/site.py site" in done.stdout, done.stderr
