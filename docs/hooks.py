"""Pages of the site that are made when it is built: the settings, the diagram of imports, files of the root."""

import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from gatectr.reference.pages import import_graph, settings_page

ROOT = Path(__file__).parent.parent
INCLUDE = re.compile(r"<!-- include: (\S+\.py) -->")
DIAGRAM = "<!-- the imports, drawn by gatectr.reference.pages -->"


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    made = {"reference/settings.md": settings_page()}
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        made[name.lower()] = text.replace("](docs/", "](")
    for notebook in (ROOT / "docs/notebooks").glob("*.ipynb"):
        made[f"notebooks/{notebook.stem}.md"] = as_page(notebook)
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def as_page(notebook: Path) -> str:
    """The cells of a notebook as a page."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = (("".join(cell["source"]), cell["cell_type"]) for cell in cells)
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for source, kind in sources)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Draws the diagram of imports and includes files where a page asks for it."""
    if DIAGRAM in markdown:
        markdown = markdown.replace(DIAGRAM, import_graph(ROOT))
    return INCLUDE.sub(lambda found: f"```python\n{(ROOT / found[1]).read_text(encoding='utf-8')}```", markdown)
