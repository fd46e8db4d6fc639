"""The page around the sections: one file that needs nothing else."""

import dataclasses
import pathlib
from typing import Sequence

from mtvit.report import markup

# Whatever a file's strings hold: the page loads nothing and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """A part of the report.

  Attributes:
    name: of its link; a word.
    title: above it.
    lead: plain sentences on what is shown and how to read it.
    body: what is shown.
  """
  name: str
  title: str
  lead: str
  body: markup.Html

  def render(self) -> markup.Html:
    return markup.tag(
        "section", markup.tag("h2", self.title),
        markup.tag("p", self.lead, class_="lead"), self.body, id=self.name)


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
  """The whole page, in ASCII."""
  tag = markup.tag
  style = pathlib.Path(__file__).with_name("style.css").read_text("ascii")
  links = [tag("li", tag("a", section.title, href=f"#{section.name}"))
           for section in sections]
  head = tag(
      "head", tag("meta", charset="utf-8"),
      markup.Html('<meta http-equiv="Content-Security-Policy" '
                  f'content="{markup.escaped(_POLICY)}">'),
      tag("meta", name="viewport", content="width=device-width"),
      tag("title", title), tag("style", markup.Html(f"\n{style}")))
  body = tag(
      "body", tag("header", tag("h1", title), tag("p", subtitle)),
      tag("nav", tag("ol", *links)),
      tag("main", *(section.render() for section in sections)))
  page = f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}"
  return page.encode("ascii", "xmlcharrefreplace").decode()
