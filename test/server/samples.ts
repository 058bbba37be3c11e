/**
 * Reads metrics in the text format of Prometheus as strictly as tests want: each name has its help and type before its samples, all of them
 * in one place, and no sample comes twice.
 */

const LABEL = String.raw`[a-z_]+="(?:[^"\\\n]|\\["\\n])*"`;
const SAMPLE = new RegExp(String.raw`^([a-z_]+)(\{${LABEL}(?:,${LABEL})*\})? (-?[0-9.e+]+)$`);

/** Values by name and labels, as they are written. */
export function samplesOf(text: string): Map<string, number> {
  if (!text.endsWith('\n')) throw new Error('the last line has no end');
  const samples = new Map<string, number>();
  const seen = new Set<string>();
  let name = '';
  let helped = '';
  for (const line of text.slice(0, -1).split('\n')) {
    if (line === '') continue;
    const help = /^# HELP ([a-z_]+) \S.*$/.exec(line);
    const type = /^# TYPE ([a-z_]+) (gauge|counter)$/.exec(line);
    const sample = SAMPLE.exec(line);
    if (help !== null) helped = help[1]!;
    else if (type !== null) {
      name = type[1]!;
      if (helped !== name || seen.has(name)) throw new Error(`'${line}' has no help, or comes twice`);
      if ((type[2] === 'counter') !== name.endsWith('_total'))
        throw new Error(`'${line}' has another's name`);
      seen.add(name);
    } else if (sample !== null && sample[1] === name) {
      const key = name + (sample[2] ?? '');
      if (samples.has(key)) throw new Error(`'${line}' comes twice`);
      samples.set(key, Number(sample[3]));
    } else throw new Error(`'${line}' is no line of metrics, or in the wrong place`);
  }
  return samples;
}
