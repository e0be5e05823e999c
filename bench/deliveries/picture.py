"""A curve over time as SVG, drawn by hand: no library is needed."""

WIDTH, HEIGHT = 900, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 50, 60
COLOURS = ("#1f6fb4", "#c8452f", "#555555", "#3d8b40")


def _nice_step(most, parts):
    step = 1
    while most / step > parts:
        for factor in (2, 2.5, 2):
            step *= factor
            if most / step <= parts:
                break
    return step


class Picture:
    """Axes from 0 to `most_x` and `most_y`; then lines; then text()."""

    def __init__(self, title, label_x, label_y, most_x, most_y):
        self.most_x, self.most_y = max(most_x, 1), max(most_y, 1)
        self.lines = 0
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{LEFT}" y="20" font-size="15">{title}</text>',
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{label_x}</text>',
            f'<text x="16" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
            f'transform="rotate(-90 16 {(TOP + HEIGHT - BOTTOM) / 2})">{label_y}</text>']
        self._axes()

    def _x(self, value):
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self.most_x

    def _y(self, value):
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(value, self.most_y) / self.most_y

    def _axes(self):
        step = _nice_step(self.most_x, 12)
        for number in range(int(self.most_x / step) + 1):
            at = self._x(number * step)
            self.parts.append(f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#eeeeee"/>'
                              f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number * step:g}</text>')
        step = _nice_step(self.most_y, 8)
        for number in range(int(self.most_y / step) + 1):
            at = self._y(number * step)
            self.parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#dddddd"/>'
                              f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{number * step:g}</text>')

    def line(self, name, points, dashed=False):
        """`points`: (x, y) in order."""
        colour = COLOURS[self.lines % len(COLOURS)]
        at = LEFT + 150 * self.lines
        style = ' stroke-dasharray="6 4"' if dashed else ""
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"{style}/>'
                          f'<line x1="{at}" y1="37" x2="{at + 24}" y2="37" stroke="{colour}" stroke-width="2"{style}/>'
                          f'<text x="{at + 30}" y="41">{name}</text>')
        self.lines += 1

    def text(self):
        return "\n".join([*self.parts, "</svg>"]) + "\n"
