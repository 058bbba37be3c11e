/**
 * Rows that are printed as they come: a table whose columns are as wide as its first rows need, or with --json a line of JSON
 * for each. Memory does not grow with their number.
 */

import type { Output } from './output.ts';

/** Rows that are looked at before widths are settled. */
const ROWS_MEASURED = 200;

/** A column's head, and what stands in it. The last column may be long, and makes no other row longer. */
export type Column<R> = readonly [head: string, cell: (row: R) => string];

export class RowStream<R> {
  readonly #output: Output;
  readonly #columns: readonly Column<R>[];
  #widths: number[] | undefined;
  #waiting: string[][] = [];

  constructor(output: Output, columns: readonly Column<R>[]) {
    this.#output = output;
    this.#columns = columns;
  }

  /** Prints a row; false if nobody reads any more. */
  async add(row: R): Promise<boolean> {
    if (this.#output.json) {
      this.#output.raw(`${JSON.stringify(row)}\n`);
    } else {
      const cells = this.#columns.map(([, cell]) => cell(row));
      if (this.#widths !== undefined) this.#draw(cells, this.#widths);
      else if (this.#waiting.push(cells) === ROWS_MEASURED) this.end();
    }
    return await this.#output.drained();
  }

  /** Prints what has been kept back. */
  end(): void {
    if (this.#widths !== undefined || this.#waiting.length === 0) return;
    const rows = [this.#columns.map(([head]) => head), ...this.#waiting];
    this.#waiting = [];
    const widths = this.#columns.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
    this.#widths = widths;
    for (const row of rows) this.#draw(row, widths);
  }

  #draw(cells: readonly string[], widths: readonly number[]): void {
    const last = cells.length - 1;
    const padded = cells.map((cell, i) => (i === last ? cell : cell.padEnd(widths[i]!)));
    this.#output.raw(`${padded.join('  ').trimEnd()}\n`);
  }
}

/** Prints all of `rows`, also those that came before a failure; `none` where there are none. */
export async function printRows<R>(
  output: Output,
  columns: readonly Column<R>[],
  rows: AsyncIterable<R>,
  none: string,
): Promise<void> {
  const stream = new RowStream(output, columns);
  let count = 0;
  try {
    for await (const row of rows) {
      count += 1;
      if (!(await stream.add(row))) return;
    }
  } finally {
    stream.end();
  }
  if (count === 0 && !output.json) output.raw(`${none}\n`);
}
