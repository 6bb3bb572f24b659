"""The page: a template, its style and the viewer's script put into one file that needs nothing else."""

import json
from importlib.resources import files


def render(**content) -> str:
    """The HTML page.

    Arguments:
        content: what the template ``assets/report.html.j2`` names. ``scene`` is a dict or None; figures hold SVG
            text, everything else is escaped.
    """
    import jinja2

    assets = files(__package__) / "assets"
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((assets / "report.html.j2").read_text(encoding="utf-8"))
    scene = content.pop("scene")
    # "</" would end the script element in which the scene stands.
    packed = json.dumps(scene, separators=(",", ":"), allow_nan=False).replace("</", "<\\/") if scene else None
    safe = jinja2.utils.markupsafe.Markup
    for section in content["sections"]:
        for figure in section["figures"]:
            figure["svg"] = safe(figure["svg"])
    return template.render(
        scene=safe(packed) if packed else None,
        style=safe((assets / "style.css").read_text(encoding="utf-8")),
        script=safe((assets / "viewer.js").read_text(encoding="utf-8")),
        **content,
    )
