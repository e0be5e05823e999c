"""Curves over time as SVG, drawn by hand: no library is needed."""

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 900, 70, 20, 34, 52
LEGEND, GAP = 26, 14  # above a panel, below it
COLOURS = ("#1f6fb4", "#555555", "#c8452f", "#3d8b40")


def _nice_step(most, parts):
    step = 1
    while most / step > parts:
        for factor in (2, 2.5, 2):
            step *= factor
            if most / step <= parts:
                break
    return step


class Picture:
    """Panels below one another that share the time, from 0 to `most_x`: panel() for each, then text()."""

    def __init__(self, title, label_x, most_x):
        self.most_x, self.label_x = max(most_x, 1), label_x
        self.parts = [f'<text x="{LEFT}" y="22" font-size="15">{title}</text>']
        self.spans, self.lines, self.bottom = [], 0, TOP

    def x(self, value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self.most_x

    def shade(self, start, end):
        """Sets a time apart, in all panels that follow."""
        self.spans.append((start, min(end, self.most_x)))

    def panel(self, label, most_y, height):
        top = self.bottom + LEGEND
        self.bottom = top + height + GAP
        return Panel(self, label, most_y, top, height)

    def text(self):
        axis = self.bottom - GAP
        step = _nice_step(self.most_x, 12)
        ticks = [f'<text x="{self.x(number * step):.1f}" y="{axis + 17}" text-anchor="middle">{number * step:g}</text>'
                 for number in range(int(self.most_x / step) + 1)]
        label = f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{axis + 38}" text-anchor="middle">{self.label_x}</text>'
        height = axis + BOTTOM
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *self.parts, *ticks, label, "</svg>"]) + "\n"


class Panel:
    """One pair of axes: any number of lines, named above it."""

    def __init__(self, picture, label, most_y, top, height):
        self.picture, self.parts = picture, picture.parts
        self.most_y, self.top, self.bottom, self.named_to = max(most_y, 1), top, top + height, LEFT
        for start, end in picture.spans:
            self.parts.append(f'<rect x="{picture.x(start):.1f}" y="{top}" width="{picture.x(end) - picture.x(start):.1f}" '
                              f'height="{height}" fill="#f0f3f7"/>')
        self._grid(label)

    def _y(self, value):
        return self.bottom - (self.bottom - self.top) * min(value, self.most_y) / self.most_y

    def _grid(self, label):
        picture = self.picture
        step = _nice_step(picture.most_x, 12)
        for number in range(int(picture.most_x / step) + 1):
            at = picture.x(number * step)
            self.parts.append(f'<line x1="{at:.1f}" y1="{self.top}" x2="{at:.1f}" y2="{self.bottom}" stroke="#e4e4e4"/>')
        step = _nice_step(self.most_y, max(4, (self.bottom - self.top) // 40))
        for number in range(int(self.most_y / step) + 1):
            at = self._y(number * step)
            self.parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" '
                              f'stroke="{"#d8d8d8" if number else "#333333"}"/>'
                              f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number * step:g}</text>')
        self.parts.append(f'<line x1="{LEFT}" y1="{self.top}" x2="{LEFT}" y2="{self.bottom}" stroke="#333333"/>')
        middle = (self.top + self.bottom) / 2
        self.parts.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{label}</text>')

    def line(self, name, points, dashed=False):
        """`points`: (x, y) in order."""
        colour = COLOURS[self.picture.lines % len(COLOURS)]
        style = ' stroke-dasharray="6 4"' if dashed else ""
        path = " ".join(f"{self.picture.x(x):.1f},{self._y(y):.1f}" for x, y in points)
        at, level = self.named_to, self.top - 9
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{style}/>'
                          f'<line x1="{at}" y1="{level}" x2="{at + 24}" y2="{level}" stroke="{colour}" stroke-width="2"{style}/>'
                          f'<text x="{at + 30}" y="{level + 4}">{name}</text>')
        self.named_to += 60 + 7 * len(name)
        self.picture.lines += 1
