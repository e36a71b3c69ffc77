// What a page looks like: each function gives what is wrong, in words, and an empty list where nothing is.
({
  shown(element) {
    return element.checkVisibility({contentVisibilityAuto: true, visibilityProperty: true, opacityProperty: true});
  },

  unfold() {
    document.querySelectorAll('details').forEach(fold => { fold.open = true; });
  },

  // More than a page or an element shows, words that fit on a line but are on two, and text beside its cell.
  cut({root, longest}) {
    const found = [], page = document.documentElement, name = element => `${element.localName}.${element.className}`;
    if (page.scrollWidth > innerWidth) {
      const widest = [...document.body.querySelectorAll('*')].filter(element => element.getBoundingClientRect().right > innerWidth + 1);
      found.push(`the page is ${page.scrollWidth} px wide because of ${widest.slice(-3).map(name)}`);
    }
    for (const element of document.querySelectorAll(`:is(${root}) :is(div, table, pre, dl, figure, p, li, nav)`))
      if (this.shown(element) && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline')
        found.push(`${name(element)} is cut: ${element.textContent.trim().slice(0, 40)}`);
    for (const cell of document.querySelectorAll(`:is(${root}) :is(th, td, dt, dd, summary)`))
      if (this.shown(cell) && cell.offsetParent?.clientWidth > 1) found.push(...this.broken(cell, longest));
    return found;
  },

  broken(cell, longest) {
    const found = [], box = cell.getBoundingClientRect(), range = document.createRange();
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), where = cell.textContent.trim().slice(0, 40);
    for (let text = texts.nextNode(); text; text = texts.nextNode())
      for (const word of text.data.matchAll(/[^\s[-]+-?/g)) {
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        const parts = [...range.getClientRects()].filter(part => part.width), lines = new Set(parts.map(part => Math.round(part.top)));
        if (word[0].length <= longest && lines.size > 1) found.push(`"${word[0]}" is broken in "${where}"`);
        if (parts.some(part => part.right > box.right + 1 || part.left < box.left - 1)) found.push(`"${word[0]}" is outside its ${cell.localName}`);
      }
    return found;
  },

  // Facts whose value is not right below its label, or that are over another one.
  apart(root) {
    const found = [];
    for (const facts of document.querySelectorAll(`:is(${root}) dl.facts`)) {
      const pairs = [...facts.children].map(pair => [...pair.children].map(part => part.getBoundingClientRect()));
      pairs.forEach(([label, value], place) => {
        const name = facts.children[place].textContent;
        if (Math.abs(label.left - value.left) > 1 || Math.abs(label.bottom - value.top) > 4) found.push(`${name}: apart`);
        const covered = pairs.some(([, other], number) => number !== place && label.top < other.bottom - 1 && other.top < label.bottom - 1
          && label.left < other.right - 1 && other.left < label.right - 1);
        if (covered || label.width === 0) found.push(`${name}: under another`);
      });
    }
    return found;
  },

  // Text and marks that WCAG AA calls hard to see: below 4.5 to 1; large text and marks below 3 to 1.
  faint(root) {
    const found = new Set();
    const judge = (colour, behind, least, what) => {
      const ratio = this.contrast(this.over(this.rgba(colour), behind), behind);
      if (ratio < least) found.add(`${what} has a contrast of ${ratio.toFixed(2)}, which is less than ${least}`);
    };
    for (const element of document.querySelectorAll(`:is(${root}) :not(style, title)`)) {
      const own = [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.data.trim()).join('');
      if (!own || !this.shown(element)) continue;
      const style = getComputedStyle(element), drawn = element instanceof SVGElement, large = parseFloat(style.fontSize) >= 24;
      judge(drawn ? style.fill : style.color, drawn ? this.underneath(element) : this.behind(element), large ? 3 : 4.5, `"${own.slice(0, 30)}"`);
    }
    const series = `:is(${root}) .drawn [class^="s"]`;
    for (const mark of document.querySelectorAll(`${series} path, ${series} use, ${series}:is(path)`)) {
      const style = getComputedStyle(mark);
      for (const [colour, opacity] of [[style.stroke, style.strokeOpacity], [style.fill, style.fillOpacity]])
        if (colour !== 'none' && opacity > 0 && !mark.closest('defs') && this.shown(mark))
          judge(colour, this.behind(mark), 3, `a mark of "${mark.closest('figure').querySelector('figcaption').textContent}"`);
    }
    return [...found];
  },

  rgba(colour) {
    const [r, g, b, a = 1] = colour.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  },

  over(above, below) {
    return below.map((value, place) => above[place] * above[3] + value * (1 - above[3]));
  },

  luminance(colour) {
    const [r, g, b] = colour.map(value => value / 255).map(value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  },

  contrast(one, other) {
    const [dark, light] = [one, other].map(this.luminance).sort((a, b) => a - b);
    return (light + .05) / (dark + .05);
  },

  // The colour behind an element, of all the boxes that it is in.
  behind(element) {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(this.rgba(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, above) => this.over(above, below), [255, 255, 255]);
  },

  // The same for a text in a picture, which may be on a cell of a matrix.
  underneath(text) {
    const box = text.getBoundingClientRect(), x = box.left + box.width / 2, y = box.top + box.height / 2;
    let colour = this.behind(text);
    for (const cell of text.closest('svg').querySelectorAll('g:not(.point) > rect')) {
      const {left, right, top, bottom} = cell.getBoundingClientRect(), style = getComputedStyle(cell);
      if (left < x && x < right && top < y && y < bottom) {
        const [r, g, b, a] = this.rgba(style.fill);
        colour = this.over([r, g, b, a * parseFloat(style.fillOpacity)], colour);
      }
    }
    return colour;
  },

  // Values of figures that no place under the pointer says.
  hidden() {
    return [...document.querySelectorAll('.point')].filter(point => this.shown(point) && !this.place(point)).map(point => point.textContent);
  },

  // A place in the window where the pointer is on this value and on no other one.
  place(point) {
    point.scrollIntoView({block: 'center', behavior: 'instant'});
    const box = point.querySelector('rect').getBoundingClientRect(), steps = [.5, .3, .7, .1, .9];
    for (const down of steps)
      for (const along of steps) {
        const x = box.left + along * box.width, y = box.top + down * box.height;
        if (document.elementFromPoint(x, y)?.closest('.point') === point) return {x, y};
      }
    return null;
  },

  placeOf(number) {
    return this.place(document.querySelectorAll('.point')[number]);
  },

  // The words beside the value that is pointed at or focused, as far as they can be read.
  tip() {
    const tips = [...document.querySelectorAll('.point .tip')].filter(tip => this.shown(tip));
    return tips.map(tip => {
      const {left, right} = tip.getBoundingClientRect();
      return left < 0 || right > innerWidth ? `from ${left} to ${right} px` : [...tip.querySelectorAll('tspan')].map(line => line.textContent).join('\n');
    });
  },

  // What Tab has reached since the last call; null at the end of the page.
  stop() {
    const at = document.activeElement;
    if (at === document.body) return null;
    at.dataset.reached = '';
    return at.matches('.point') ? {said: at.querySelector('title').textContent, tip: this.tip()} : {said: null};
  },

  // Words inside an element that have no place on the page.
  unprinted(element) {
    return [...element.querySelectorAll('dt, dd, td, th, pre')].filter(part => !this.shown(part) || !part.getBoundingClientRect().height)
      .map(part => part.textContent.slice(0, 40));
  },

  unreached() {
    const all = document.querySelectorAll(':is(a[href], summary, input, .point):not([data-reached])');
    return [...all].filter(element => this.shown(element)).map(element => element.outerHTML.slice(0, 100));
  },
})
