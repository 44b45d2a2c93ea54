// Where labels stand beside their points: none runs over another, nor over what is taken. All are boxes on a canvas.

const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;

const box = (left, top, width, height) => ({ left, top, right: left + width, bottom: top + height });

export const around = (x, y, radius) => box(x - radius, y - radius, 2 * radius, 2 * radius);

// To the right of its point, left, above, below, then aslant: ``room`` is how far off, from the point's middle.
const SIDES = [[1, 0], [-1, 0], [0, -1], [0, 1], [1, -1], [1, 1], [-1, -1], [-1, 1]];

const beside = ({ x, y, room, width, height }) => SIDES.map(([right, down]) =>
  box(x + right * room - (width * (1 - right)) / 2, y + down * room - (height * (1 - down)) / 2, width, height));

// The box of each label, the first chosen first; null where no side is free, unless it ``must`` be read.
export function placed(labels, taken, canvas) {
  const boxes = [...taken];
  const inside = (each) => each.left >= 0 && each.top >= 0 && each.right <= canvas.width && each.bottom <= canvas.height;
  return labels.map((label) => {
    const inView = beside(label).filter(inside);
    const found = inView.find((each) => boxes.every((other) => apart(each, other))) ?? (label.must ? inView[0] ?? beside(label)[0] : null);
    if (found) boxes.push(found);
    return found;
  });
}
