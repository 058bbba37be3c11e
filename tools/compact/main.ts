#!/usr/bin/env node
/** `coppice compact` as a program of its own: `node dist/tools/compact/main.js --store DIR`. */

import { endOnMistake, readVersion } from '../../src/cli/process.ts';
import { runCommandLine } from '../../src/cli/program.ts';

process.umask(0o077);
endOnMistake();
process.exitCode = await runCommandLine(['compact', ...process.argv.slice(2)], readVersion());
