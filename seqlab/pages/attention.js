'use strict';
/* Attention weights that one can look through by kind, layer and head.

It fills every element with an attribute data-attention, which names a script element
with the data that seqlab/pages/attention.py describes, in the language of the page. */

(() => {
  const TEXTS = {
    en: {
      encoder: 'encoder self-attention', decoder: 'decoder self-attention',
      cross: 'cross-attention (decoder to source)',
      kind: 'Kind', layer: 'Layer', head: 'Head',
      predicts: 'To predict this token, the decoder', token: 'This token', attends: 'attends to',
      all: 'All layers and heads', table: 'All weights of this attention as a table',
      maps: 'One small map per head: rows are the tokens of the first line, columns those of the second. Choose one to see it above.',
      of: (i, n) => `${i} of ${n}`, meanOf: n => `mean of ${n}`, mean: 'mean',
      layerOf: i => `layer ${i}`, headOf: i => `head ${i}`,
      said: (isRow, token, i, n, listed) =>
        `“${token}” (${i} of ${n}) ${isRow ? 'attends most to' : 'gets most attention from'}: ${listed}`,
      large: 'The table would be too large to show.',
    },
    ru: {
      encoder: 'внимание энкодера к себе', decoder: 'внимание декодера к себе',
      cross: 'внимание декодера к исходному предложению',
      kind: 'Вид', layer: 'Слой', head: 'Голова',
      predicts: 'Чтобы предсказать этот токен, декодер', token: 'Этот токен', attends: 'смотрит на',
      all: 'Все слои и головы', table: 'Все веса этого внимания таблицей',
      maps: 'На каждую голову одна маленькая карта: строки суть токены первой линии, столбцы токены второй. Выберите карту, чтобы увидеть её наверху.',
      of: (i, n) => `${i} из ${n}`, meanOf: n => `среднее ${n}`, mean: 'среднее',
      layerOf: i => `слой ${i}`, headOf: i => `голова ${i}`,
      said: (isRow, token, i, n, listed) =>
        `«${token}» (${i} из ${n}) ${isRow ? 'больше всего смотрит на' : 'получает больше всего внимания от'}: ${listed}`,
      large: 'Таблица слишком велика.',
    },
  };
  const TEXT = TEXTS[document.documentElement.lang] || TEXTS.en;
  const MOST = 6;  // tokens that a sentence lists
  const CELLS = 20000;  // of the largest table that is written out

  function make(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === 'text') node.textContent = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  /* The weights of one kind: float32 [layers, heads, rows, columns], little-endian. */
  class Weights {
    constructor(map, sides) {
      Object.assign(this, map);
      this.rowTokens = sides[map.rows].tokens;
      this.columnTokens = sides[map.columns].tokens;
      const bytes = Uint8Array.from(atob(map.weights), c => c.charCodeAt(0));
      this.values = new Float32Array(bytes.buffer);
    }

    /* Returns the matrix of a head, or the mean of all heads of the layer for -1. */
    matrix(layer, head) {
      const size = this.rowTokens.length * this.columnTokens.length;
      const of = h => {
        const start = (layer * this.heads + h) * size;
        return this.values.subarray(start, start + size);
      };
      if (head >= 0) return of(head);
      const mean = new Float32Array(size);
      for (let h = 0; h < this.heads; h++) of(h).forEach((x, i) => { mean[i] += x / this.heads; });
      return mean;
    }
  }

  /* A line of tokens, of which the arrow keys choose one. */
  class Tokens {
    constructor(onChoose) {
      this.onChoose = onChoose;
      this.title = make('h3');
      this.line = make('div', {class: 'attention-tokens', role: 'group'});
      this.node = make('section', {class: 'attention-side'}, this.title, this.line);
      this.line.addEventListener('keydown', event => this.move(event));
    }

    show(title, tokens) {
      this.title.textContent = title;
      this.line.setAttribute('aria-label', title);
      this.buttons = tokens.map((token, i) => {
        const weight = make('small', {'aria-hidden': 'true'});
        const button = make('button', {type: 'button', tabindex: i ? -1 : 0, 'aria-pressed': 'false'});
        button.append(make('span', {text: token, dir: 'auto'}), weight);
        for (const kind of ['pointerenter', 'focus', 'click']) {
          button.addEventListener(kind, () => this.onChoose(i));
        }
        return button;
      });
      this.line.replaceChildren(...this.buttons);
    }

    move(event) {
      const at = this.buttons.indexOf(document.activeElement);
      const last = this.buttons.length - 1;
      const to = {ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last}[event.key];
      if (at < 0 || to === undefined) return;
      event.preventDefault();
      this.buttons[Math.min(Math.max(to, 0), last)].focus();
    }

    /* Marks the chosen token, if it is on this side, and shows weights, if it is not. */
    mark(chosen, weights) {
      this.buttons.forEach((button, i) => {
        button.setAttribute('aria-pressed', String(i === chosen));
        if (chosen !== null) button.tabIndex = i === chosen ? 0 : -1;
        const weight = weights === null ? 0 : weights[i];
        button.style.setProperty('--share', weight.toFixed(3));
        button.lastChild.textContent = weights === null ? '' : weight.toFixed(2);
      });
    }
  }

  class AttentionView {
    constructor(root, data) {
      this.maps = data.maps.map(map => new Weights(map, data.sides));
      this.choice = {kind: data.first, layer: -1, head: -1, side: 'rows', index: 0};
      this.controls = {};
      const controls = make('div', {class: 'attention-controls'});
      for (const name of ['kind', 'layer', 'head']) {
        const select = make('select', {name});
        select.addEventListener('change', () => this.set(name, Number(select.value)));
        this.controls[name] = select;
        controls.append(make('label', {}, TEXT[name], select));
      }
      this.rows = new Tokens(i => this.choose('rows', i));
      this.columns = new Tokens(i => this.choose('columns', i));
      this.said = make('p', {class: 'attention-said', 'aria-live': 'polite'});
      this.heads = make('table', {class: 'attention-heads'});
      this.table = make('div', {class: 'scroll'});
      this.details = make('details', {}, make('summary', {text: TEXT.table}), this.table);
      this.details.addEventListener('toggle', () => this.drawTable());
      root.replaceChildren(
        controls, this.rows.node, this.columns.node, this.said,
        make('h3', {text: TEXT.all}),
        make('p', {class: 'muted', text: TEXT.maps}),
        make('div', {class: 'scroll'}, this.heads), this.details);
      matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.drawHeads());
      this.set('kind', data.first);
    }

    get weights() { return this.maps[this.choice.kind]; }

    /* Changes kind, layer or head, and draws what depends on it. */
    set(name, value) {
      const choice = this.choice;
      choice[name] = value;
      if (name === 'kind') {
        Object.assign(choice, {layer: this.weights.layers - 1, head: this.weights.heads > 1 ? -1 : 0, side: 'rows', index: 0});
        const cross = this.weights.rows !== this.weights.columns;
        this.rows.show(cross ? TEXT.predicts : TEXT.token, this.weights.rowTokens);
        this.columns.show(TEXT.attends, this.weights.columnTokens);
        this.fillControls();
        this.drawHeads();
      }
      for (const key of ['kind', 'layer', 'head']) this.controls[key].value = choice[key];
      for (const button of this.heads.querySelectorAll('button')) {
        const own = Number(button.dataset.layer) === choice.layer && Number(button.dataset.head) === choice.head;
        button.setAttribute('aria-pressed', String(own));
      }
      this.matrix = this.weights.matrix(choice.layer, choice.head);
      this.drawTokens();
      this.drawTable();
    }

    choose(side, index) {
      Object.assign(this.choice, {side, index});
      this.drawTokens();
    }

    fillControls() {
      const {layers, heads} = this.weights;
      const options = {
        kind: this.maps.map((map, i) => [i, TEXT[map.kind] || map.kind]),
        layer: Array.from({length: layers}, (_, i) => [i, TEXT.of(i + 1, layers)]),
        head: Array.from({length: heads}, (_, i) => [i, TEXT.of(i + 1, heads)]),
      };
      if (heads > 1) options.head.unshift([-1, TEXT.meanOf(heads)]);
      for (const [name, values] of Object.entries(options)) {
        this.controls[name].replaceChildren(...values.map(([value, text]) => make('option', {value, text})));
      }
    }

    /* Returns the weights of the chosen row, or of the chosen column. */
    line() {
      const {side, index} = this.choice;
      const {rowTokens, columnTokens} = this.weights;
      const S = columnTokens.length;
      if (side === 'rows') return Array.from(this.matrix.subarray(index * S, index * S + S));
      return rowTokens.map((_, i) => this.matrix[i * S + index]);
    }

    drawTokens() {
      const {side, index} = this.choice;
      const line = this.line();
      const isRow = side === 'rows';
      this.rows.mark(isRow ? index : null, isRow ? null : line);
      this.columns.mark(isRow ? null : index, isRow ? line : null);
      const {rowTokens, columnTokens} = this.weights;
      const [own, others] = isRow ? [rowTokens, columnTokens] : [columnTokens, rowTokens];
      const order = line.map((_, i) => i).sort((a, b) => line[b] - line[a]).slice(0, MOST);
      const listed = order.map(i => `${others[i]} ${line[i].toFixed(2)}`).join(', ');
      this.said.textContent = TEXT.said(isRow, own[index], index + 1, own.length, listed);
    }

    drawHeads() {
      const {layers, heads} = this.weights;
      const columns = heads > 1 ? [-1, ...Array(heads).keys()] : [0];
      const colour = getComputedStyle(document.documentElement).getPropertyValue('--map').trim().split(/\s+/).map(Number);
      const title = head => head < 0 ? TEXT.mean : TEXT.headOf(head + 1);
      const body = Array.from({length: layers}, (_, layer) => make('tr', {},
        make('th', {scope: 'row', text: TEXT.layerOf(layer + 1)}),
        ...columns.map(head => make('td', {}, this.thumbnail(layer, head, colour, title(head))))));
      const top = make('tr', {}, make('td'), ...columns.map(head => make('th', {scope: 'col', text: title(head)})));
      this.heads.replaceChildren(make('thead', {}, top), make('tbody', {}, ...body));
    }

    thumbnail(layer, head, colour, title) {
      const rows = this.weights.rowTokens.length, columns = this.weights.columnTokens.length;
      const canvas = make('canvas', {width: columns, height: rows});
      const context = canvas.getContext('2d');
      const image = context.createImageData(columns, rows);
      this.weights.matrix(layer, head).forEach((x, i) => image.data.set([...colour, Math.round(255 * x)], 4 * i));
      context.putImageData(image, 0, 0);
      const own = layer === this.choice.layer && head === this.choice.head;
      const button = make('button', {type: 'button', 'aria-label': `${TEXT.layerOf(layer + 1)}, ${title}`, 'aria-pressed': String(own), 'data-layer': layer, 'data-head': head}, canvas);
      button.addEventListener('click', () => { this.set('layer', layer); this.set('head', head); });
      return button;
    }

    drawTable() {
      if (!this.details.open) return;
      const {rowTokens, columnTokens} = this.weights;
      if (rowTokens.length * columnTokens.length > CELLS) {
        this.table.textContent = TEXT.large;
        return;
      }
      const top = columnTokens.map(text => make('th', {scope: 'col', text, dir: 'auto'}));
      const body = rowTokens.map((text, i) => make('tr', {}, make('th', {scope: 'row', text, dir: 'auto'}),
        ...columnTokens.map((_, j) => {
          const weight = this.matrix[i * columnTokens.length + j];
          return make('td', {text: weight.toFixed(2), style: `--share: ${weight.toFixed(3)}`});
        })));
      this.table.replaceChildren(make('table', {class: 'attention-table'},
        make('thead', {}, make('tr', {}, make('td'), ...top)), make('tbody', {}, ...body)));
    }
  }

  for (const root of document.querySelectorAll('[data-attention]')) {
    const data = JSON.parse(document.getElementById(root.dataset.attention).textContent);
    new AttentionView(root, data);
  }
})();
