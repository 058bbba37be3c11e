#!/usr/bin/env node
/** `coppice dump` as a program of its own: `node dist/tools/dump/main.js --store DIR`. */

import { endOnMistake, readVersion } from '../../src/cli/process.ts';
import { runCommandLine } from '../../src/cli/program.ts';

process.umask(0o077);
endOnMistake();
process.exitCode = await runCommandLine(['dump', ...process.argv.slice(2)], readVersion());
