"""Parts of a page: text that is shown and not obeyed, tables that sort, figures, embedded pictures."""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from lilliput.data.store import Images
from lilliput.system.visible import visible

SHOWN = 0.8  # of a still figure's pixels, in the page


def text(value: Any) -> str:
    """Anything as text between tags or in a quoted attribute."""
    return html.escape(visible(str(value)))


def script_json(content: Any) -> str:
    """JSON inside a script's tags, that no name in it can end early."""
    written = json.dumps(content, default=_jsonable)
    return written.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def facts(values: Mapping[str, str]) -> str:
    """A table of names and what they are."""
    lines = (f"<tr><th scope=row>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in values.items())
    return f"<div class=wide><table>{''.join(lines)}</table></div>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Of text; numbers stand to the right."""
    return sortable(header, [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows])


def sortable(header: Sequence[str], rows: Sequence[str]) -> str:
    """A table that a click on a heading sorts: headings are text, rows are HTML."""
    head = "".join(f"<th scope=col aria-sort=none><button type=button>{text(name)}</button></th>" for name in header)
    body = "".join(rows)
    return f"<div class=wide><table class=sortable><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def plot(name: str, figure: dict[str, Any], alt: str) -> str:
    """A figure of plotly's that answers to the pointer; not in print."""
    return (
        f'<div class="plot screen" id="plot-{name}" role=img aria-label="{text(alt)}"></div>'
        f'<script type=application/json class=figure data-for="plot-{name}">{script_json(figure)}</script>'
    )


def picture(drawn: bytes, alt: str) -> str:
    """A still figure, drawn as a PNG, in the page itself."""
    image = Image.open(io.BytesIO(drawn)).convert("RGB")
    image = image.resize((round(SHOWN * image.width), round(SHOWN * image.height)))
    small = io.BytesIO()
    image.save(small, format="webp", quality=80, method=2)  # a third of a PNG's bytes, and of its time
    size = f"width={image.width} height={image.height}"
    return f'<figure><img alt="{text(alt)}" {size} src="data:image/webp;base64,{_base64(small)}"></figure>'


def thumbnail(images: Images, row: int) -> str:
    """The image at a row, at most 64 px wide: a JPEG in base64."""
    return jpeg(images.batch(np.array([row]))[0].numpy(), 64)


def jpeg(pixels: np.ndarray, widest: int) -> str:
    """An image, uint8 [3, H, W], at most so many pixels wide: a JPEG in base64."""
    image, drawn = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), io.BytesIO()
    image.thumbnail((widest, widest))
    image.save(drawn, format="jpeg", quality=70)
    return _base64(drawn)


def _cell(value: str) -> str:
    number = value[:1].isdigit() or value[:1] in ".+-–"
    return f"<td{' class=number' if number else ''}>{text(value)}</td>"


def _base64(content: io.BytesIO) -> str:
    return base64.b64encode(content.getvalue()).decode()


def _jsonable(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
