// The CPU time a server has used, from /proc: its threads, the children it has waited for, and the
// children it still has.

import { readFileSync, readdirSync } from 'node:fs';

// USER_HZ, the unit of /proc times: 100 wherever Node runs on Linux, whatever the kernel's own HZ.
const TICKS_PER_SECOND = 100;
// proc(5) counts the fields of stat from 1; the first two, pid and name, are cut off.
const PARENT_INDEX = 4 - 3;
const UTIME_INDEX = 14 - 3;
const CSTIME_INDEX = 17 - 3;

/** Of all of these processes together; 0 if there is none. @throws if one of them is gone */
export function cpuSeconds(pids: readonly number[]): number {
  const processes = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const fields = /^\d+$/.test(name) ? statFields(name) : undefined;
    if (fields !== undefined) processes.set(Number(name), fields);
  }
  let ticks = 0;
  for (const pid of pids) {
    if (!processes.has(pid)) throw new Error(`the server, process ${pid}, is gone`);
    ticks += ticksOfTree(pid, processes);
  }
  return ticks / TICKS_PER_SECOND;
}

function ticksOfTree(pid: number, processes: ReadonlyMap<number, number[]>): number {
  const own = processes.get(pid)?.slice(UTIME_INDEX, CSTIME_INDEX + 1) ?? [];
  let ticks = own.reduce((sum, time) => sum + time, 0);
  for (const [child, fields] of processes) {
    if (fields[PARENT_INDEX] === pid) ticks += ticksOfTree(child, processes);
  }
  return ticks;
}

function statFields(name: string): number[] | undefined {
  try {
    const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
    // The process name is in parentheses and may hold anything, spaces and parentheses too.
    return stat
      .slice(stat.lastIndexOf(')') + 2)
      .split(' ')
      .map(Number);
  } catch {
    // The process has ended since the directory was read.
    return undefined;
  }
}
