/**
 * `coppice fsck`: prints what a check finds, as it finds it, and says in the exit code whether the store is clean.
 *
 * Invariants: nothing is changed; notes (a torn tail, an unfinished delete) leave a store clean; whatever keeps the
 * check from its end is `cannotCheck` or `cancelled`, never `ok`. With `--json` the output is one array, written as a stream.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import type { CheckStep } from '../check/audit-run.ts';
import type { AffectedVersion, Finding } from '../volume/summary.ts';
import { EXIT, type ExitCode, endOf, Interrupted } from './exit-codes.ts';
import type { Output } from './output.ts';
import { Progress } from './progress.ts';
import { reach } from './reach-store.ts';
import { formatSize } from './size.ts';

/** A check that has begun, so that being refused shows at once. */
interface RunningCheck {
  readonly first: IteratorResult<Finding, unknown>;
  readonly rest: AsyncGenerator<Finding>;
}

export interface CheckWishes {
  /** No payloads. */
  readonly quick?: boolean | undefined;
  /** Looks at the files as they are, whoever has the store. */
  readonly readOnly?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function checkStore(
  locate: () => string,
  output: Output,
  complain: (sentence: string) => void,
  wishes: CheckWishes = {},
): Promise<ExitCode> {
  const progress = new CheckProgress();
  try {
    const directory = locate();
    const checkHere = async (): Promise<RunningCheck> => {
      // Not through an open store: opening recovers, and a check must leave what it finds as it is.
      const { Store } = await import('../volume/store.ts');
      const onProgress = (step: CheckStep): void => progress.take(step);
      return await begin(Store.check(directory, { ...wishes, onProgress }));
    };
    const reached = wishes.readOnly === true ? await checkHere() : await reach(directory, checkHere);
    if ('first' in reached) return await report(reached, output, progress, wishes.signal);
    try {
      return await report(await begin(reached.check(wishes)), output, progress, wishes.signal);
    } finally {
      await reached.close();
    }
  } catch (error) {
    if (error instanceof Interrupted) {
      complain(`${error.message}; nothing was changed`);
      return EXIT.cancelled;
    }
    if (!(error instanceof StoreError)) throw error;
    const advice = hasCode(error, 'LOCKED') ? ', or look at it as it is with --read-only' : '';
    complain(`${endOf(error)!.sentence}${advice}`);
    return error.code === 'INVALID_ARGUMENT' ? EXIT.usage : EXIT.cannotCheck;
  } finally {
    progress.end();
  }
}

async function begin(findings: AsyncGenerator<Finding>): Promise<RunningCheck> {
  return { first: await findings.next(), rest: findings };
}

/** @throws Interrupted if `signal` is aborted, and what the check throws */
async function report(
  { first, rest }: RunningCheck,
  output: Output,
  progress: CheckProgress,
  signal: AbortSignal | undefined,
): Promise<ExitCode> {
  let damaged = 0;
  let printed = 0;
  if (output.json) output.raw('[');
  try {
    for (let next = first; next.done !== true; next = await unlessAborted(rest, signal)) {
      const finding = next.value;
      if (finding.severity === 'damage') damaged++;
      progress.end();
      output.raw(output.json ? `${printed === 0 ? '' : ','}\n  ${JSON.stringify(finding)}` : draw(finding));
      printed++;
    }
  } finally {
    progress.end();
    if (output.json) output.raw(printed === 0 ? ']\n' : '\n]\n');
  }
  if (!output.json) output.raw(verdict(damaged));
  return damaged === 0 ? EXIT.ok : EXIT.findings;
}

/** The last line of a check. */
export function verdict(damaged: number): string {
  return damaged === 0 ? 'clean\n' : `${damaged} finding${damaged === 1 ? '' : 's'}\n`;
}

/** The next finding; a check that is far from its next one is left to end by itself. */
async function unlessAborted(
  findings: AsyncGenerator<Finding>,
  signal: AbortSignal | undefined,
): Promise<IteratorResult<Finding, unknown>> {
  if (signal === undefined) return await findings.next();
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
  });
  const next = findings.next();
  next.catch(() => undefined); // it ends with the same reason, some time
  try {
    return await Promise.race([next, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

const MENDED = {
  open: 'mended when the store is opened',
  repair: 'a repair can mend it',
  none: 'nothing mends it: what was there is gone',
};

function* drawLines(finding: Finding): Generator<string> {
  const { severity, message, code, affects = [], moreVersions = 0, mend } = finding;
  yield `${severity}: ${message} [${code}]`;
  for (const each of affects) yield `  affects ${drawAffected(each)}`;
  if (moreVersions > 0) yield `  affects ${moreVersions} more versions`;
  if (severity === 'damage' && mend !== undefined) yield `  ${MENDED[mend]}`;
}

/** As text, lines and all. */
export function draw(finding: Finding): string {
  return [...drawLines(finding)].map((line) => `${line}\n`).join('');
}

/** Which extents of a volume or snapshot, as text. */
export function drawAffected({ volume, snapshot, extents, moreExtents = 0 }: AffectedVersion): string {
  const name = snapshot === undefined ? volume : `${volume}@${snapshot}`;
  const some = extents.map(({ offsetBytes, lengthBytes }) => `${formatSize(lengthBytes)} at ${offsetBytes}`);
  return `${name}: ${some.join(', ')}${moreExtents > 0 ? ` and ${moreExtents} more extents` : ''}`;
}

/** How far the reading of segments has come; who checks through a server is not told. */
export class CheckProgress {
  #progress: Progress | undefined;
  #doneBytes = 0;

  take({ doneBytes, totalBytes }: CheckStep): void {
    this.#progress ??= new Progress('checking', totalBytes);
    this.#progress.add(doneBytes - this.#doneBytes);
    this.#doneBytes = doneBytes;
  }

  end(): void {
    this.#progress?.end();
  }
}
