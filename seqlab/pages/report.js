'use strict';
/* Sorts lists of samples by a number that each item has as data. */

(() => {
  for (const root of document.querySelectorAll('[data-sorted]')) {
    const list = root.querySelector('ol');
    const buttons = [...root.querySelectorAll('button[data-sort]')];
    const said = root.querySelector('[aria-live]');
    let chosen = 'number', falling = false;
    for (const button of buttons) {
      button.addEventListener('click', () => {
        const key = button.dataset.sort;
        falling = key === chosen ? !falling : false;
        chosen = key;
        const sign = falling ? -1 : 1;
        const items = [...list.children];
        items.sort((a, b) => sign * (a.dataset[key] - b.dataset[key]) || a.dataset.number - b.dataset.number);
        list.replaceChildren(...items);
        for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
        said.textContent = ` ${falling ? 'highest' : 'lowest'} first`;
      });
    }
  }
})();
