/* A long list of equal elements: only those near the screen are in the document. */

import { fill } from "../dom.js";

const NEAR = 500; // pixels above and below the screen
const HEADER = 100; // pixels of what stays at the top of the screen
const GUESS = 46; // pixels of a row before one is measured

export class LongList {
  /** *make(item)* returns an element; *drawn(items)* is called with items near the screen. */
  constructor(element, make, drawn, signal) {
    Object.assign(this, { element, make, drawn, items: [], from: 0, to: 0, height: GUESS });
    const draw = () => this.draw();
    addEventListener("scroll", draw, { passive: true, signal });
    addEventListener("resize", draw, { signal });
  }

  show(items) {
    this.items = items;
    this.draw();
  }

  /** Scroll up to the first items, if they are above the screen. */
  toTop() {
    const { top } = this.element.getBoundingClientRect();
    if (top < 0) scrollBy(0, top - HEADER);
  }

  draw(isMeasured = false) {
    const { element, items } = this;
    if (!element.isConnected) return;
    const { gridTemplateColumns, rowGap } = getComputedStyle(element);
    this.columns = gridTemplateColumns.split(" ").length;
    const gap = parseFloat(rowGap) || 0;
    this.pitch = this.height + gap;
    const lines = Math.ceil(items.length / this.columns);
    const { top } = element.getBoundingClientRect();
    const inside = (line) => Math.max(0, Math.min(Math.floor(line), lines));
    const first = inside((-top - NEAR) / this.pitch);
    const last = inside((innerHeight - top + NEAR) / this.pitch + 1);
    this.from = first * this.columns;
    this.to = Math.min(last * this.columns, items.length);
    element.style.paddingTop = `${first * this.pitch}px`;
    element.style.paddingBottom = `${Math.max(0, lines - last) * this.pitch}px`;
    const near = items.slice(this.from, this.to);
    this.place(near.map((item, at) => this.make(item, this.from + at)));
    const height = element.firstElementChild?.offsetHeight;
    if (!isMeasured && height && height !== this.height) {
      this.height = height;
      this.draw(true);
    } else this.drawn(near);
  }

  /** Put *elements* into the document if they have changed; the focus stays. */
  place(elements) {
    const { element } = this;
    const { children } = element;
    if (elements.length === children.length && elements.every((each, at) => each === children[at]))
      return;
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    fill(element, elements);
    if (focused?.isConnected) focused.focus({ preventScroll: true });
  }

  /** Return the element of an item, after scrolling to it if it is far from the screen. */
  reveal(at) {
    if (at < this.from || at >= this.to) {
      const line = Math.floor(at / this.columns);
      const { top } = this.element.getBoundingClientRect();
      scrollBy(0, top + line * this.pitch - innerHeight / 2);
      this.draw();
    }
    return this.element.children[at - this.from];
  }
}
