"""The page: a template, its style and the viewer's script put into one file that needs nothing else."""

import json
from importlib.resources import files


def render(*, verb: str, footnote: str, **content) -> str:
    """The HTML page.

    Arguments:
        verb: of the command that made it.
        footnote: its last words: units, and where the same figures are for machines.
        content: what the template ``assets/report.html.j2`` names. ``scene`` is a dict or None; figures hold SVG
            text, everything else is escaped.
    """
    import jinja2
    from markupsafe import Markup

    assets = files("jaxcg.report") / "assets"
    template = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).from_string((assets / "report.html.j2").read_text(encoding="utf-8"))
    scene = content.pop("scene")
    # "</" would end the script element in which the scene stands.
    packed = json.dumps(scene, separators=(",", ":"), allow_nan=False).replace("</", "<\\/") if scene else None
    for section in content["sections"]:
        for figure in section["figures"]:
            figure["svg"] = Markup(figure["svg"])
    return template.render(
        verb=verb,
        footnote=footnote,
        scene=Markup(packed) if packed else None,
        style=Markup((assets / "style.css").read_text(encoding="utf-8")),
        script=Markup((assets / "viewer.js").read_text(encoding="utf-8")),
        **content,
    )
