"""Pictures of packages as this project reads them: RGB, square, on white."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.pictures import open_picture

SIDE = 256  # pixels
BACKGROUND = "white"
_ELSEWHERE = re.compile(r"""href\s*=\s*["'](?!#)|url\(\s*["']?(?!#)|@import""")


def renderer() -> str:
    """Return name and version of the library that draws SVG.

    Raises:
        UserError: It is not installed.
    """
    try:
        import resvg_py
    except ImportError:
        raise UserError("pictures are drawn by resvg_py: pip install 'polygen-stream[transfer]'") from None
    return f"resvg_py {resvg_py.__version__}"


def icon_svg(icons: Mapping[str, Any], name: str) -> str:
    """Return one icon of an Iconify icons.json as an SVG document, black where the icon leaves the colour open.

    Args:
        icons: The content of icons.json: the icons under "icons", the size of those that name none beside it
            (https://iconify.design/docs/types/iconify-json.html; 16 where neither does).
        name: The icon.

    Raises:
        PolygenError: There is no such icon, or it loads something from elsewhere.
    """
    icon = icons["icons"].get(name)
    if icon is None:
        raise PolygenError(f"{icons.get('prefix')} has no icon {name}")
    if _ELSEWHERE.search(icon["body"]):
        raise PolygenError(f"the icon {icons.get('prefix')}:{name} refers to something outside itself")
    left, top, width, height = (
        icon.get(key, icons.get(key, default))
        for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="black"'
        f' width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )


def draw_svg(svg: str) -> Image.Image:
    """Draw an SVG document of SIDE x SIDE pixels on BACKGROUND, mode RGB.

    Raises:
        PolygenError: It cannot be drawn.
    """
    import resvg_py

    try:
        drawn = resvg_py.svg_to_bytes(svg_string=svg, background=BACKGROUND, skip_system_fonts=True)
    except ValueError as problem:
        raise PolygenError(f"cannot draw an icon: {problem}") from None
    return Image.open(BytesIO(bytes(drawn))).convert("RGB")


def fit(content: bytes, named: str) -> Image.Image:
    """Return a picture file as SIDE x SIDE pixels, mode RGB: scaled to fit, in the middle of BACKGROUND.

    Raises:
        UserError: It is no picture.
    """
    picture = open_picture(content, named, background=BACKGROUND)
    scale = SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    canvas = Image.new("RGB", (SIDE, SIDE), BACKGROUND)
    canvas.paste(picture.resize((width, height), Image.Resampling.LANCZOS), ((SIDE - width) // 2, (SIDE - height) // 2))
    return canvas
