'use strict';
(() => {
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (name, properties = {}) => Object.assign(document.createElement(name), properties);
  const tip = document.getElementById('tip');

  // The theme: that of the system, or the one that was chosen.
  const stored = (value) => {
    try {
      if (value === undefined) return localStorage.getItem('theme');
      localStorage.setItem('theme', value);
    } catch { /* A file may have no storage. */ }
    return null;
  };
  const isDark = () => {
    const theme = document.documentElement.dataset.theme;
    return theme ? theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  };
  const theme = make('button', { type: 'button', id: 'theme' });
  const name = () => { theme.textContent = isDark() ? 'Light' : 'Dark'; };
  const before = stored();
  if (before) document.documentElement.dataset.theme = before;
  theme.onclick = () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    stored(document.documentElement.dataset.theme);
    name();
  };
  theme.title = 'Changes between light and dark';
  name();
  document.getElementById('tools').append(theme);

  // Tables: a click on a heading sorts by its column.
  const sorts = {}; // By the name of a table: column and direction.
  const number = (text) => {
    const match = text.replace(/,/g, '').replace('−', '-').match(/-?\d+(\.\d+)?(e[-+]?\d+)?(M\b)?/);
    return match ? parseFloat(match[0]) * (match[3] ? 1e6 : 1) : NaN;
  };
  const sort = (table, column, direction) => {
    const body = table.tBodies[0];
    const isText = !table.tHead.rows[0].cells[column].classList.contains('number');
    const text = (row) => row.cells[column].textContent.trim();
    body.append(...[...body.rows].sort((a, b) => {
      const [x, y] = [number(text(a)), number(text(b))];
      if (isText || (isNaN(x) && isNaN(y))) return direction * text(a).localeCompare(text(b));
      if (isNaN(x)) return 1; // What is not a number comes last.
      if (isNaN(y)) return -1;
      return direction * (x - y);
    }));
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute('aria-sort');
    table.tHead.rows[0].cells[column].setAttribute('aria-sort', direction > 0 ? 'ascending' : 'descending');
  };
  const startTables = (root) => $$('table[data-sort]', root).forEach((table) => {
    const place = table.closest('.scroll').getAttribute('aria-label');
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = make('button', { type: 'button', textContent: cell.textContent });
      button.onclick = () => {
        const first = cell.classList.contains('number') ? 'descending' : 'ascending';
        const now = cell.getAttribute('aria-sort');
        const next = now ? (now === 'ascending' ? -1 : 1) : (first === 'ascending' ? 1 : -1);
        sorts[place] = [column, next];
        sort(table, column, next);
      };
      cell.replaceChildren(button);
    });
    if (sorts[place]) sort(table, ...sorts[place]);
  });

  // Tables of runs: a text, and a value of each column of words.
  const filters = {};
  const startFilters = (root) => $$('table[data-filter]', root).forEach((table) => {
    const rows = [...table.tBodies[0].rows];
    const bar = make('div', { className: 'filters-bar' });
    const shown = make('span', { className: 'muted' });
    shown.setAttribute('role', 'status');
    const apply = () => {
      const words = (filters.text || '').toLowerCase().split(/\s+/);
      let count = 0;
      for (const row of rows) {
        const content = row.textContent.toLowerCase();
        row.hidden = !(words.every((word) => content.includes(word)) && Object.entries(filters).every(
          ([column, value]) => column === 'text' || !value || row.cells[column].textContent.trim() === value));
        count += !row.hidden;
      }
      shown.textContent = `${count} of ${rows.length}`;
    };
    const add = (key, label, input) => {
      input.value = filters[key] || '';
      input.oninput = () => { filters[key] = input.value; apply(); };
      const named = make('label', { textContent: label });
      named.append(input);
      bar.append(named);
    };
    add('text', 'Contains', make('input', { type: 'search', size: 16 }));
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      if (cell.classList.contains('number')) return;
      const values = [...new Set(rows.map((row) => row.cells[column].textContent.trim()))].sort();
      if (values.length < 2 || values.length > 60) return;
      const select = make('select');
      select.append(new Option('all', ''), ...values.map((value) => new Option(value, value)));
      add(column, cell.textContent, select);
    });
    bar.append(shown);
    table.closest('.scroll').before(bar);
    apply();
  });

  // One of several images at a time.
  const steps = {};
  const startSteppers = (root) => $$('.stepper', root).forEach((stepper) => {
    const items = $$(':scope > .step', stepper);
    const bar = make('div', { className: 'stepper-bar' });
    const input = make('input', { type: 'range', min: 0, max: items.length - 1, value: steps[stepper.id] || 0 });
    const label = make('label', { textContent: stepper.dataset.stepper });
    const output = make('output', { className: 'muted' });
    const show = () => {
      steps[stepper.id] = input.value;
      items.forEach((item, place) => item.toggleAttribute('data-current', place === +input.value));
      output.textContent = `${+input.value + 1} of ${items.length}`;
    };
    input.id = `${stepper.id}-input`;
    label.htmlFor = input.id;
    input.oninput = show;
    bar.append(label, input, output);
    if (items.length > 1) stepper.prepend(bar);
    stepper.dataset.on = '';
    show();
  });

  // Charts: the text of what is pointed at, at once and by the arrow keys.
  const hide = () => {
    tip.hidden = true;
    for (const cross of $$('.cross')) cross.setAttribute('d', '');
  };
  const say = (hit, x, y) => {
    hide();
    tip.textContent = hit.dataset.text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18}px`;
    if (hit.dataset.cross) hit.ownerSVGElement.querySelector('.cross').setAttribute('d', hit.dataset.cross);
  };
  const startCharts = (root) => {
    for (const hit of $$('.hit', root)) {
      const title = hit.querySelector('title');
      hit.dataset.text = title.textContent;
      title.remove(); // Or the browser would show it too.
      hit.addEventListener('pointermove', (event) => say(hit, event.clientX, event.clientY));
      hit.addEventListener('pointerleave', hide);
    }
    for (const chart of $$('svg[data-chart]', root)) {
      const hits = $$('.hit', chart);
      let place = -1;
      chart.tabIndex = 0;
      chart.addEventListener('blur', () => { hide(); });
      chart.addEventListener('keydown', (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (event.key === 'Escape') hide();
        if (!step || !hits.length) return;
        event.preventDefault();
        place = Math.max(0, Math.min(hits.length - 1, place + step));
        const box = hits[place].getBoundingClientRect();
        say(hits[place], box.left + box.width / 2, box.top);
      });
    }
  };

  const startCommand = (root) => $$('pre.command', root).forEach((pre) => {
    if (!navigator.clipboard) return;
    const button = make('button', { type: 'button', textContent: 'Copy' });
    button.onclick = async () => {
      await navigator.clipboard.writeText(pre.textContent);
      button.textContent = 'Copied';
    };
    pre.after(button);
  });

  const start = (root) => {
    startTables(root);
    startFilters(root);
    startSteppers(root);
    startCharts(root);
    startCommand(root);
  };
  start(document);
  addEventListener('scroll', hide, { passive: true });

  // While a run goes on: only the content is replaced, so that nothing jumps.
  if (!('live' in document.documentElement.dataset)) return;
  const live = document.getElementById('live');
  let tag = null;
  const opened = () => new Set($$('details[open] > summary').map((summary) => summary.textContent));
  const refresh = async () => {
    try {
      const answer = await fetch(location.href, { headers: tag ? { 'If-None-Match': tag } : {}, cache: 'no-store' });
      if (answer.status === 200) {
        // The first answer is shown too: it may be newer than what was loaded.
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        const [details, focused] = [opened(), document.activeElement.id];
        document.title = page.title;
        document.getElementById('contents').replaceWith(page.getElementById('contents'));
        document.getElementById('main').replaceWith(page.getElementById('main'));
        $$('details > summary').forEach((summary) => { summary.parentNode.open = details.has(summary.textContent); });
        hide();
        start(document.getElementById('main'));
        document.getElementById(focused)?.focus({ preventScroll: true });
        tag = answer.headers.get('ETag');
        live.textContent = `live, ${new Date().toLocaleTimeString()}`;
      } else if (answer.status !== 304) {
        live.textContent = await answer.text();
      }
    } catch {
      live.textContent = 'rnascl watch has ended';
    }
    setTimeout(refresh, 2000);
  };
  refresh();
})();
