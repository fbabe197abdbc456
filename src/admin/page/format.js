// Numbers and times for people.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export const count = (number) => whole.format(number);

// A rate: `0`, `0.4`, `17`, `1.2K`.
export function rate(number) {
  if (number < 10) return tenths.format(number);
  return number < 10_000 ? whole.format(number) : short.format(number);
}

// Bytes: `17 B`, `1.2 KiB`.
export function bytes(number) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return `${unit === 0 || number >= 100 ? whole.format(number) : tenths.format(number)} ${units[unit]}`;
}

// How long something has lasted: `41 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const parts = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return '0 s';
  const [size, unit] = parts[first];
  const text = `${Math.floor(seconds / size)} ${unit}`;
  if (first === parts.length - 1) return text;
  const [nextSize, nextUnit] = parts[first + 1];
  const rest = Math.floor((seconds % size) / nextSize);
  return rest > 0 ? `${text} ${rest} ${nextUnit}` : text;
}

// The time of day with milliseconds.
export function clock(milliseconds) {
  const time = new Date(milliseconds);
  const two = (number) => String(number).padStart(2, '0');
  const day = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':');
  return `${day}.${String(time.getMilliseconds()).padStart(3, '0')}`;
}

// A time with its day.
export const moment = (milliseconds) => new Date(milliseconds).toLocaleString('en-GB', { timeZoneName: 'short' });
