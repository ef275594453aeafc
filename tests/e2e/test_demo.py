"""The README's first command, and the transcript that the README shows of it."""

import json
import re
from pathlib import Path

from tests.running import Home

README = Path(__file__).parents[2] / "README.md"
VARIES = re.compile(r"\d[\d,.:]*|~?/\S*/share/pixmill|\S*/home")


def shape(line: str) -> str:
    """A line without its numbers, and with one name for the home folder."""
    return re.sub(r"\s+", " ", VARIES.sub("#", line)).strip()


def test_the_demo_trains_classifies_and_shows_what_the_readme_shows(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    done = home.run("demo", "--json")
    outcome = json.loads(done.stdout)
    assert outcome["accuracy"] >= 0.97
    assert outcome["found"] == outcome["classified"] == 360
    transcript = re.search(r"```console\n\$ \./do demo\n(.*?)```", README.read_text(), re.DOTALL)
    assert transcript
    shown = {shape(line) for line in transcript.group(1).splitlines() if line.strip(" …")}
    printed = {shape(line) for line in done.stderr.splitlines()}
    assert shown - printed == set()
    assert not home.processes()
