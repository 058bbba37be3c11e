/**
 * `coppice fsck --repair`: prints what was found, what was done about it, what is lost, and what another check finds behind it.
 *
 * Invariants: the exit code is 0 only for a store that was clean, and 1 only if another check found it clean; whatever
 * keeps the repair from its end is told as what has become of the store. With `--json` the output is one object, written as a stream.
 */

import { hasCode, StoreError } from '../base/errors.ts';
import type { Finding } from '../volume/summary.ts';
import { CheckProgress, draw, drawAffected, verdict } from './check-command.ts';
import { EXIT, type ExitCode, endOf, Interrupted } from './exit-codes.ts';
import type { Output } from './output.ts';
import { retryWhileOwned } from './reach-store.ts';

export interface RepairWishes {
  readonly acceptsOldData?: boolean | undefined;
  readonly signal: AbortSignal;
}

export async function repairStore(
  locate: () => string,
  output: Output,
  complain: (sentence: string) => void,
  wishes: RepairWishes,
): Promise<ExitCode> {
  const report = output.json ? new JsonReport(output) : new TextReport(output);
  let progress = new CheckProgress();
  try {
    const directory = locate();
    const { repairOffline } = await import('../repair/offline-repair.ts');
    const options = {
      ...wishes,
      onFinding: (finding: Finding, when: 'before' | 'after'): void => {
        progress.end();
        report.found(finding, when);
      },
      onStep: (sentence: string): void => {
        progress.end();
        progress = new CheckProgress();
        report.step(sentence);
      },
      onProgress: (step: Parameters<CheckProgress['take']>[0]): void => progress.take(step),
    };
    const result = await retryWhileOwned(() => repairOffline(directory, options));
    progress.end();
    report.end(result);
    if (result.state === 'clean') return EXIT.ok;
    return result.state === 'mended' ? EXIT.mended : EXIT.findings;
  } catch (error) {
    progress.end();
    report.end(undefined);
    if (error instanceof Interrupted) {
      complain(`${error.message}; nothing was changed`);
      return EXIT.cancelled;
    }
    if (!(error instanceof StoreError)) throw error;
    if (hasCode(error, 'LOCKED')) {
      const [owner] = error.message.split(';');
      complain(`${owner}; a repair needs it for itself: stop the server, or whatever it is, first`);
    } else complain(endOf(error)!.sentence);
    return error.code === 'INVALID_ARGUMENT' ? EXIT.usage : EXIT.cannotCheck;
  } finally {
    progress.end();
  }
}

type Result = Awaited<ReturnType<typeof import('../repair/offline-repair.ts')['repairOffline']>>;

interface Report {
  found(finding: Finding, when: 'before' | 'after'): void;
  step(sentence: string): void;
  /** undefined: it failed. */
  end(result: Result | undefined): void;
}

class TextReport implements Report {
  readonly #output: Output;
  #damaged = 0;
  #hasStep = false;

  constructor(output: Output) {
    this.#output = output;
  }

  found(finding: Finding, when: 'before' | 'after'): void {
    if (when === 'after' && !this.#hasStep) return; // as before
    if (finding.severity === 'damage') this.#damaged += 1;
    this.#output.raw(draw(finding));
  }

  step(sentence: string): void {
    if (!this.#hasStep) this.#output.raw(verdict(this.#damaged));
    this.#hasStep = true;
    this.#damaged = 0;
    this.#output.raw(`${sentence}\n`);
  }

  end(result: Result | undefined): void {
    if (result === undefined) return;
    for (const each of result.done) this.#output.raw(`repaired: ${each}\n`);
    for (const each of result.lost) this.#output.raw(`lost: ${drawAffected(each)}\n`);
    for (const each of result.unknown) this.#output.raw(`lost, and nobody can say what: ${each}\n`);
    if (result.moreVersions > 0) this.#output.raw(`lost: of ${result.moreVersions} more versions\n`);
    if (result.replaced !== undefined) {
      const what = 'what was replaced; remove it when nobody wants to look at it any more';
      this.#output.raw(`${result.replaced}, in the directory of the store, has ${what}\n`);
    }
    this.#output.raw(verdict(this.#damaged));
  }
}

/** `{"found": [...], "left": [...], "state": ..., ...}`. */
class JsonReport implements Report {
  readonly #output: Output;
  #part: 'before' | 'after' | undefined;
  #printed = 0;

  constructor(output: Output) {
    this.#output = output;
  }

  #begin(part: 'before' | 'after'): void {
    if (this.#part === undefined) this.#output.raw('{"found": [');
    if (this.#part !== 'after' && part === 'after') {
      this.#output.raw(`${this.#printed === 0 ? '' : '\n'}],\n"left": [`);
      this.#printed = 0;
    }
    this.#part = part;
  }

  found(finding: Finding, when: 'before' | 'after'): void {
    if (this.#part === undefined) this.#begin('before');
    this.#begin(when);
    this.#output.raw(`${this.#printed++ === 0 ? '' : ','}\n  ${JSON.stringify(finding)}`);
  }

  step(): void {}

  end(result: Result | undefined): void {
    if (this.#part === undefined) this.#begin('before');
    if (this.#part === 'before') this.#begin('after');
    const rest = JSON.stringify(result ?? { state: 'failed' }).slice(1);
    this.#output.raw(`${this.#printed === 0 ? '' : '\n'}],\n${rest}\n`);
  }
}
