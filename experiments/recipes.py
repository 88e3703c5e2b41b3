"""How long each recipe and guide of the documentation takes, in a process of its own.

    python experiments/recipes.py

Each section of docs/guides/recipes.md, and each of the other guides that is one example, runs from the start of Python
to its end, compilation included. One whose output is not what the page says is an error.
"""

import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro
from outputs import find_result, say_found
from report import describe_run, markdown_table, save_result
from tqdm import tqdm

GUIDES = Path(__file__).parent.parent / "docs" / "guides"
PAGES = ("mechanism", "graphs", "links", "training")
RUN = """
import doctest, sys
flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
failed, tried = doctest.testfile(sys.argv[1], module_relative=False, optionflags=flags)
sys.exit(failed > 0 or tried == 0)
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """Time every recipe."""

    overwrite: bool = False
    """Replace the result that the output folder holds."""
    output: Path = Path("runs/recipes")
    """Folder for result.json."""


def recipes() -> dict[str, tuple[str, str]]:
    """By title: the link from docs/guides, and the text."""
    _, *sections = (GUIDES / "recipes.md").read_text().split("\n## ")
    found = {}
    for section in sections:
        title, text = section.split("\n", 1)
        found[title] = "#" + "-".join("".join(filter(_in_anchor, title.lower())).split()), text
    for page in PAGES:
        text = (GUIDES / f"{page}.md").read_text()
        found[text.split("\n", 1)[0].removeprefix("# ")] = f"{page}.md", text
    return found


def _in_anchor(character: str) -> bool:
    return character.isalnum() or character in " -"


def seconds(title: str, text: str) -> float:
    """From the start of Python to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.md"
        path.write_text(text)
        started = time.perf_counter()
        command = [sys.executable, "-c", RUN, str(path)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{title}: not what the page says\n{done.stdout}{done.stderr}")
        return time.perf_counter() - started


def table(rows: dict[str, dict[str, Any]]) -> str:
    """One line per recipe.

    >>> print(table({"Regression": {"link": "#regression", "seconds": 6.2}}))
    | recipe                    | seconds |
    |---------------------------|---------|
    | [Regression](#regression) | 6       |
    """
    lines = [[f"[{title}]({row['link']})", f"{row['seconds']:.0f}"] for title, row in rows.items()]
    return markdown_table(["recipe", "seconds"], lines)


def main(config: Config) -> None:
    """Run, and say where everything is."""
    path = config.output / "result.json"
    result = find_result(path, {}, overwrite=config.overwrite)
    if result is None:
        rows = {
            title: {"link": link, "seconds": seconds(title, text)}
            for title, (link, text) in tqdm(recipes().items(), unit="recipe")
        }
        result = {"rows": rows, "config": {}, **describe_run()}
        save_result(path, result)
    else:
        say_found(path)
    print(table(result["rows"]))


if __name__ == "__main__":
    main(tyro.cli(Config))
