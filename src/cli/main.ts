#!/usr/bin/env node
/**
 * The `coppice` program: sets up the process, runs the command line, ends with its code.
 *
 * Invariants: whatever this process creates is its user's alone; a programmer's mistake ends it with a stack and its
 * own exit code, wherever it happens; a reader that goes away (`coppice list | head`) is no mistake.
 */

import { runCommandLine } from './program.ts';
import { endOnMistake, letHeapGrow, readVersion } from './process.ts';

process.umask(0o077);
endOnMistake();
letHeapGrow();
process.exitCode = await runCommandLine(process.argv.slice(2), readVersion());
