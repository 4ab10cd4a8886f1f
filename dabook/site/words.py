"""Words that the site puts into pages by itself, on buttons and in lines of facts: English here; an
edition in another language gives its own in `site_words` of its configuration."""

from sphinx.application import Sphinx

WORDS = {
    # questions with checked answers
    "check": "Check",
    "answer": "Show the answer",
    "yours": "Your answer",
    "right": "Right.",
    "wrong": "Not this.",
    "partly": "Not all of it yet.",
    "none": "Choose an answer first.",
    "nan": "Type a number, such as 0.5.",
    # exercises
    "facts": "Grade {grade}, about {minutes} min",
    "exercise": "exercise",
    "chapter": "chapter",
    "grade": "grade",
    "minutes": "minutes",
    "sum": "{count} exercises: {first} of grade 1, {second} of grade 2, {third} of grade 3; {hours} hours in all.",
}


def words(app: Sphinx) -> dict[str, str]:
    """The words of this edition."""
    return WORDS | app.config.site_words


def setup(app: Sphinx) -> dict:
    app.add_config_value("site_words", {}, "html", dict)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
