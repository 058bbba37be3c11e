// The processes a benchmark starts: servers, fio and short commands.
//
// Each child leads its own process group, so that an interrupt at the terminal reaches only the
// benchmark, which then ends its children in order, and so that ending a child ends what it forked.
//
// Invariants:
// - a child is in `running` from its start until its exit
// - once `stopAll` was called, nothing more can be started

import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';

// The servers promise to stop within 5 s of SIGTERM.
const STOP_GRACE_MS = 6000;
// The end of an error output says why; the rest would bury it.
const ERROR_TAIL_CHARACTERS = 2000;

const running = new Set<ChildProcess>();
let closing = false;

process.on('exit', () => {
  for (const child of running) signalGroup(child, 'SIGKILL');
});

export function startChild(command: string, args: string[], stdio: StdioOptions, cwd?: string): ChildProcess {
  if (closing) throw new Error(`interrupted before ${command} was started`);
  const child = spawn(command, args, { stdio, detached: true, ...(cwd === undefined ? {} : { cwd }) });
  running.add(child);
  child.once('exit', () => running.delete(child));
  // A command that cannot be started has no exit; whoever waits for it gets the error as well.
  child.once('error', () => running.delete(child));
  return child;
}

/**
 * Runs a command to its end and returns its standard output.
 * @throws when it fails or times out.
 */
export async function runCommand(
  command: string,
  args: string[],
  options: { cwd?: string; timeoutMs?: number } = {},
): Promise<string> {
  const child = startChild(command, args, ['ignore', 'pipe', 'pipe'], options.cwd);
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout?.on('data', (bytes: Buffer) => output.push(bytes));
  child.stderr?.on('data', (bytes: Buffer) => errors.push(bytes));
  const timeoutMs = options.timeoutMs ?? 60_000;
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    signalGroup(child, 'SIGKILL');
  }, timeoutMs);
  try {
    await once(child, 'close');
  } finally {
    clearTimeout(timer);
  }
  const outputText = Buffer.concat(output).toString();
  if (timedOut) throw new Error(`${command} did not end within ${timeoutMs / 1000} s`);
  if (child.exitCode !== 0) {
    const said = `${outputText}\n${Buffer.concat(errors).toString()}`.trim().slice(-ERROR_TAIL_CHARACTERS);
    throw new Error(`${command} ${args.join(' ')} failed (${child.exitCode ?? child.signalCode}): ${said}`);
  }
  return outputText;
}

/** Ends a child with `signal`, or by force when it takes too long; says which of the two it was. */
export async function stopChild(
  child: ChildProcess,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<'stopped' | 'killed'> {
  if (!running.has(child)) return 'stopped';
  const exited = once(child, 'exit');
  let killed = false;
  const timer = setTimeout(() => {
    killed = true;
    signalGroup(child, 'SIGKILL');
  }, STOP_GRACE_MS);
  signalGroup(child, signal);
  await exited;
  clearTimeout(timer);
  return killed ? 'killed' : 'stopped';
}

/** Ends every child and lets no other be started. */
export async function stopAll(): Promise<void> {
  closing = true;
  await Promise.all([...running].map((child) => stopChild(child)));
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group is gone already.
  }
}
