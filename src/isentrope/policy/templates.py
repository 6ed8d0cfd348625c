"""Forms in which the same question is asked, each with marks by which an answer shows that it keeps to the form."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Template:
    """A form in which a question is put, and the marks that an answer in that form has.

    Of the marks the last two enclose the answer; a single mark stands before it. ``given`` of them belong to the prompt
    (a "teacher" prefix): the policy neither writes them nor is paid for them. A mark that closes the answer cannot be given.

    Args:
        name: what reports call it.
        prompt: how the question is put; ``{prompt}`` stands for it.
        marks: texts that a completion holds once each, in this order.
        given: how many of the first marks the prompt ends with.

    Raises:
        ValueError: if the prompt leaves the question out, a mark is empty, or too many marks are given, the one that closes
            the answer among them.

    References:
        Prompt augmentation for GRPO, arXiv 2602.03190.

    Examples:
        >>> template = Template("tags", "Think. {prompt}", ("<think>", "</think>", "<answer>", "</answer>"), given=1)
        >>> template.asked("1+2=?")
        'Think. 1+2=?<think>'
        >>> text = "It is 3.</think><answer>3</answer>"
        >>> template.answer(text), template.format(text), round(template.format(text + "</answer>"), 3)
        ('3', 1.0, 0.667)
        >>> text[: template.before(text)]
        'It is 3.</think><answer>'
    """

    name: str
    prompt: str = "{prompt}"
    marks: tuple[str, ...] = ()
    given: int = 0

    def __post_init__(self):
        if self.prompt.count("{prompt}") != 1:
            raise ValueError(f"Template: prompt must hold '{{prompt}}' once, got {self.prompt!r}")
        if not all(self.marks):
            raise ValueError(f"Template: marks must not be empty, got {self.marks}")
        most = len(self.marks) - (len(self.marks) > 1)
        if not 0 <= self.given <= most:
            reason = ", because the last mark closes the answer" if self.given == len(self.marks) else ""
            raise ValueError(f"Template: given must lie between 0 and {most}{reason}, got {self.given}")

    def asked(self, prompt: str) -> str:
        """What the policy reads."""
        return self.prompt.replace("{prompt}", prompt) + "".join(self.marks[: self.given])

    def answered(self, answer: str) -> str:
        """A completion in this form."""
        whole = "".join(self.marks[:1] if len(self.marks) == 1 else self.marks[:-1]) + answer
        whole += self.marks[-1] if len(self.marks) > 1 else ""
        return whole.removeprefix("".join(self.marks[: self.given]))

    def before(self, completion: str) -> int:
        """How many characters of a completion come before its answer; none, where the mark that opens it is missing."""
        given = "".join(self.marks[: self.given])
        before, opening, _ = (given + completion).partition(self.marks[-2:][0]) if self.marks else ("", "", "")
        return max(0, len(before) + len(opening) - len(given)) if opening else 0

    def answer(self, completion: str) -> str:
        """What the marks around the answer enclose; to either side everything, where a mark is missing."""
        text = completion[self.before(completion) :]
        return text.partition(self.marks[-1])[0] if len(self.marks) > 1 else text

    def format(self, completion: str) -> float:
        """The share of the marks left to the policy that occur exactly once; 1 where there are none."""
        own = self.marks[self.given :]
        return sum(completion.count(mark) == 1 for mark in own) / len(own) if own else 1.0


SYMBOLS = (
    Template("plain"),
    Template("angles", "a:{prompt}", ("<", ">")),
    Template("angle given", "b:{prompt}", ("<", ">"), given=1),
    Template("phases", "c:{prompt}", ("!", "?", "<", ">")),
    Template("announced", "d:{prompt}", ("is:",)),
)
"""Forms for policies that read and write characters: tags, tags whose first is given, phases, and an announcement."""
