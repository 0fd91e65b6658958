"""Pages of the site that are made when it is built: the settings, the diagram of imports, files of the root."""

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
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Draws the diagram of imports and includes files where a page asks for it."""
    if DIAGRAM in markdown:
        markdown = markdown.replace(DIAGRAM, import_graph(ROOT))
    return INCLUDE.sub(lambda found: f"```python\n{(ROOT / found[1]).read_text(encoding='utf-8')}```", markdown)
