/** Where the programs are that these tools run: beside them, where they were built. */

import path from 'node:path';

const BUILT = path.resolve(import.meta.dirname, '../..').replace(/(\/dist)?$/, '/dist');

export const MAIN = path.join(BUILT, 'src/cli/main.js');
export const TOOL = path.join(BUILT, 'tools/size/main.js');
