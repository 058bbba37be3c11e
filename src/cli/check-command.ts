/**
 * `coppice fsck`: prints what a check finds, as it finds it, and says in the exit code whether the store is clean.
 *
 * Invariants: nothing is changed; notes (a torn tail, an unfinished delete) leave a store clean; whatever keeps the
 * check from its end is `cannotCheck`, never `ok`. With `--json` the output is one array, written as a stream.
 */

import { StoreError } from '../base/errors.ts';
import type { Finding } from '../volume/summary.ts';
import { EXIT, type ExitCode, endOf } from './exit-codes.ts';
import type { Output } from './output.ts';
import { reach } from './reach-store.ts';

/** A check that has begun, so that being refused shows at once. */
interface RunningCheck {
  readonly first: IteratorResult<Finding, unknown>;
  readonly rest: AsyncGenerator<Finding>;
}

export async function checkStore(
  locate: () => string,
  output: Output,
  complain: (sentence: string) => void,
): Promise<ExitCode> {
  try {
    const directory = locate();
    const reached = await reach(directory, async () => {
      // Not through an open store: opening recovers, and a check must leave what it finds as it is.
      const { Store } = await import('../volume/store.ts');
      return await begin(Store.check(directory));
    });
    if ('first' in reached) return await report(reached, output);
    try {
      return await report(await begin(reached.check()), output);
    } finally {
      await reached.close();
    }
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    complain(endOf(error)!.sentence);
    return EXIT.cannotCheck;
  }
}

async function begin(findings: AsyncGenerator<Finding>): Promise<RunningCheck> {
  return { first: await findings.next(), rest: findings };
}

export async function report({ first, rest }: RunningCheck, output: Output): Promise<ExitCode> {
  let damaged = 0;
  let printed = 0;
  if (output.json) output.raw('[');
  try {
    for (let next = first; next.done !== true; next = await rest.next()) {
      const finding = next.value;
      if (finding.severity === 'damage') damaged++;
      output.raw(
        output.json
          ? `${printed === 0 ? '' : ','}\n  ${JSON.stringify(finding)}`
          : `${finding.severity}: ${finding.message} [${finding.code}]\n`,
      );
      printed++;
    }
  } finally {
    if (output.json) output.raw(printed === 0 ? ']\n' : '\n]\n');
  }
  if (!output.json) output.raw(damaged === 0 ? 'clean\n' : `${damaged} finding${damaged === 1 ? '' : 's'}\n`);
  return damaged === 0 ? EXIT.ok : EXIT.findings;
}
