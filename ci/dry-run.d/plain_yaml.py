"""Reads the YAML of the examples, without a library: mappings, sequences, block scalars, quoted and plain
scalars, flow sequences. Every scalar is a string. What it does not know it refuses; `ci/dry-run lint` holds
what it reads against PyYAML.
"""

import re

KEY = re.compile(r"""("[^"]*"|[^\s#&*!|>'"%@`\[\]{},][^#]*?):(?:\s+(.*))?$""")


class Unreadable(Exception):
    """It is no YAML of this kind."""


def documents(text):
    """All documents of a file."""
    parts = re.split(r"(?m)^---[ ]*\n", text)
    return [document for document in (Reader(part).read() for part in parts) if document is not None]


class Reader:
    """Lines, and the one that is next."""

    def __init__(self, text):
        self.lines = text.split("\n")
        self.at = 0

    def read(self):
        if not self.is_left():
            return None
        value = self.node(self.indent())
        if self.is_left():
            raise Unreadable(f"line {self.at + 1}: {self.lines[self.at]!r}")
        return value

    def is_left(self):
        """Goes on to the next line that says something."""
        while self.at < len(self.lines) and re.match(r"\s*(#.*)?$", self.lines[self.at]):
            self.at += 1
        return self.at < len(self.lines)

    def indent(self):
        line = self.lines[self.at]
        return len(line) - len(line.lstrip(" "))

    def node(self, indent):
        return self.sequence(indent) if self.lines[self.at][indent:].startswith("- ") else self.mapping(indent)

    def sequence(self, indent):
        items = []
        while self.is_left() and self.indent() == indent and self.lines[self.at][indent:].startswith("- "):
            line = self.lines[self.at]
            rest = line[indent + 2 :]
            if KEY.match(rest) and not rest.startswith(("[", '"')):
                # A mapping whose first key stands behind the dash.
                self.lines[self.at] = " " * (indent + 2) + rest
                items.append(self.mapping(indent + 2))
            else:
                self.at += 1
                items.append(self.scalar(rest, indent))
        return items

    def mapping(self, indent):
        pairs = {}
        while self.is_left() and self.indent() == indent and not self.lines[self.at][indent:].startswith("- "):
            found = KEY.match(self.lines[self.at][indent:])
            if not found:
                raise Unreadable(f"line {self.at + 1}: {self.lines[self.at]!r}")
            key, rest = found.group(1).strip('"'), found.group(2) or ""
            self.at += 1
            if rest and not rest.startswith("#"):
                pairs[key] = self.scalar(rest, indent)
            elif self.is_left() and self.is_below(indent):
                pairs[key] = self.node(self.indent())
            else:
                pairs[key] = ""
        return pairs

    def is_below(self, indent):
        """Whether the next line is a value of the key at this indent; a sequence may stand right below it."""
        dashed = self.lines[self.at].lstrip().startswith("- ")
        return self.indent() > indent or (self.indent() == indent and dashed)

    def scalar(self, text, indent):
        if text[0] in "|>":
            return self.block(text.split(" #")[0].strip(), indent)
        if text[0] == "[":
            return self.flow(text)
        if text[0] in "\"'":
            return quoted(text)
        if text[0] in "{&*!%@`":
            raise Unreadable(f"line {self.at}: {text!r}")
        return re.split(r"\s+#", text)[0].strip()

    def flow(self, text):
        inside = re.match(r"\[(.*)\]\s*(#.*)?$", text)
        if not inside:
            raise Unreadable(f"line {self.at}: {text!r}")
        words = [word.strip() for word in inside.group(1).split(",")] if inside.group(1).strip() else []
        return [quoted(word) if word[0] in "\"'" else word for word in words]

    def block(self, style, indent):
        lines = []
        while self.at < len(self.lines) and (not self.lines[self.at].strip() or self.indent() > indent):
            lines.append(self.lines[self.at])
            self.at += 1
        while lines and not lines[-1].strip():
            lines.pop()
        depth = min(len(line) - len(line.lstrip(" ")) for line in lines if line.strip())
        lines = [line[depth:] for line in lines]
        end = "" if style.endswith("-") else "\n"
        if style.rstrip("-") not in ("|", ">"):
            raise Unreadable(f"line {self.at}: {style!r}")
        if style[0] == ">" and not all(lines):
            raise Unreadable(f"line {self.at}: an empty line in a folded block")
        return ("\n" if style[0] == "|" else " ").join(lines) + end


def quoted(text):
    found = re.match(r"""("[^"\\]*"|'[^'\\]*')\s*(#.*)?$""", text)
    if not found:
        raise Unreadable(repr(text))
    return found.group(1)[1:-1]
