// Building what is shown. Everything becomes text: nothing here reads HTML.

// The element of this id, which is in index.html.
export const byId = (id) => document.getElementById(id);

// An element: `el('td', {class: 'number'}, '12')`. Properties that are functions are listeners: `{click: f}`.
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Writes a text, unless it stands there already: a change of nothing would lose a selection.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Shows an element or hides it.
export function show(element, isShown) {
  element.hidden = !isShown;
}

// Makes the options of a <select> these values, behind its first one, and keeps what is selected if it is among them.
export function setOptions(select, values) {
  const have = [...select.options].slice(1).map((option) => option.value);
  if (have.length === values.length && have.every((value, at) => value === values[at])) return;
  const selected = select.value;
  select.replaceChildren(select.options[0], ...values.map((value) => el('option', { value }, value)));
  select.value = values.includes(selected) ? selected : '';
}

// Keeps as many rows in a <tbody> as there are items. `create` makes the row of a place, `update` writes an item into it,
// so that a row that is focused or selected stays what it is.
export function fillRows(body, items, create, update) {
  while (body.children.length > items.length) body.lastElementChild.remove();
  while (body.children.length < items.length) body.append(create(body.children.length));
  items.forEach((item, at) => update(body.children[at], item, at));
}
