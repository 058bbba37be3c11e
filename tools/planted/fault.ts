/**
 * A planted bug: a mistake that somebody could make, as a change of one place of the source, and the tests that must
 * notice it. No I/O.
 *
 * Invariant: its text stands exactly once in its file. A fault that applies nowhere, or at two places, proves nothing.
 */

export interface Fault {
  /** What the mistake is, as a sentence. */
  readonly name: string;
  readonly file: string;
  /** What is right, as it stands in the file. */
  readonly text: string;
  readonly replacement: string;
  /** Test files of which one must fail, the likely finder first. */
  readonly tests: readonly string[];
}

/** How often `text` stands in `source`. */
function occurrences(source: string, text: string): number {
  return source.split(text).length - 1;
}

/** Why the fault cannot be planted into `source`, the content of its file; undefined if it can. */
export function whyNot(source: string, fault: Fault): string | undefined {
  const count = occurrences(source, fault.text);
  if (fault.text === fault.replacement) return 'it changes nothing';
  return count === 1 ? undefined : `its text stands ${count} times in ${fault.file}`;
}

/** The content of the fault's file with the fault in it. @throws Error if it does not apply exactly once */
export function plant(source: string, fault: Fault): string {
  const reason = whyNot(source, fault);
  if (reason !== undefined) throw new Error(`"${fault.name}" does not apply: ${reason}`);
  return source.replace(fault.text, () => fault.replacement);
}

const inRoom =
  (room: string) =>
  (name: string): string =>
    `test/${room}/${name}.test.ts`;

/** Test files by name. */
export const inLog = inRoom('log');
export const inIndex = inRoom('index');
export const inDelta = inRoom('delta');
export const inSchedule = inRoom('schedule');
export const inCompaction = inRoom('compaction');
export const inCheck = inRoom('check');
export const inVolume = inRoom('volume');
export const inRepair = inRoom('repair');
export const inNbd = inRoom('nbd');
export const inCli = inRoom('cli');
export const inServer = inRoom('server');
export const inBase = inRoom('base');
