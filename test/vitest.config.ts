/** How tests are run. */

import { defineConfig } from 'vitest/config';

const MS_MAX = 120_000;

export default defineConfig({
  test: { globalSetup: 'test/support/scratch-root.ts', testTimeout: MS_MAX, hookTimeout: MS_MAX },
});
