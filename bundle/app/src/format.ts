// Numbers as people read them.

/** Writes numbers in one language. */
export class Format {
  readonly #language: string;

  constructor(language: string) {
    this.#language = language;
  }

  /** At most `digits` after the point. */
  number(value: number, digits = 0): string {
    return value.toLocaleString(this.#language, { maximumFractionDigits: digits });
  }

  /** Bytes in decimal units, as systems show free space. */
  bytes(value: number): string {
    const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
    let unit = 0;
    let scaled = value;
    while (scaled >= 999.5 && unit < units.length - 1) {
      scaled /= 1000;
      unit++;
    }
    return scaled.toLocaleString(this.#language, {
      style: 'unit',
      unit: units[unit]!,
      unitDisplay: 'short',
      maximumFractionDigits: scaled < 10 && unit > 0 ? 1 : 0,
    });
  }

  /** A share as a percentage. */
  percent(share: number): string {
    return share.toLocaleString(this.#language, { style: 'percent', maximumFractionDigits: 1 });
  }

  /** Seconds, or minutes and more when there are many. */
  duration(seconds: number): string {
    const [value, unit] =
      seconds < 100
        ? [Math.ceil(seconds), 'second']
        : seconds < 6000
          ? [Math.round(seconds / 60), 'minute']
          : [Math.round(seconds / 3600), 'hour'];
    return (value as number).toLocaleString(this.#language, {
      style: 'unit',
      unit: unit as string,
      unitDisplay: 'short',
    });
  }

  /** Milliseconds, in seconds when there are many. */
  milliseconds(value: number): string {
    const long = value >= 1000;
    return (long ? value / 1000 : value).toLocaleString(this.#language, {
      style: 'unit',
      unit: long ? 'second' : 'millisecond',
      unitDisplay: 'short',
      maximumFractionDigits: long ? 2 : 0,
    });
  }

  /** A day and a time. */
  date(milliseconds: number): string {
    return new Date(milliseconds).toLocaleString(this.#language, {
      dateStyle: 'medium',
      timeStyle: 'short',
    });
  }
}
