"""A figure as an element of an HTML page, in the page's colours and without what no eye sees."""

from __future__ import annotations

import re

from amago_suite.figures import INK, LINE, SERIES, SOFT, Drawing

_VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    **{colour: f"var(--s{i})" for i, colour in enumerate(SERIES)},
}


def inline_svg(drawing: Drawing) -> str:
    """The figure as an element of an HTML page: colours follow the page's theme.

    Ids get the figure's name in front, so that figures of one page never share one, and
    coordinates lose the decimals that no eye sees.
    """
    text = drawing.svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    used = set(
        re.findall(r"#([A-Za-z][\w.-]*)", " ".join(re.findall(r'(?:url\([^)]*\)|href="[^"]*")', text)))
    )

    def rename(match: re.Match[str]) -> str:
        return f' id="{drawing.name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r'\s+id="([^"]*)"', rename, text)
    text = re.sub(r"url\(#([^)]*)\)", rf"url(#{drawing.name}-\1)", text)
    text = re.sub(r'href="#([^"]*)"', rf'href="#{drawing.name}-\1"', text)
    text = re.sub(r' (?:d|x|y|points|transform)="[^"]*"', _rounded, text)
    for colour, variable in _VARIABLES.items():
        text = re.sub(re.escape(colour), variable, text, flags=re.I)
    text = re.sub(r"font: (?:[^;\"]*?)([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)[0]
    opening = f'<svg viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.4:.0f}px" role="img" aria-label="'
    return re.sub(r"<svg [^>]*>", lambda _: opening + _escape(drawing.title) + '">', text, count=1)


def _rounded(attribute: re.Match[str]) -> str:
    """Coordinates to hundredths; text that a reader sees is no attribute and stays."""
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), attribute[0])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
