// Random 4 KiB reads of a cached file, 64 in flight: operations per second.
const fs = require('fs/promises');
(async () => {
  const [path, seconds] = [process.argv[2], Number(process.argv[3])];
  const file = await fs.open(path, 'r');
  const blocks = Math.floor((await file.stat()).size / 4096);
  const end = process.hrtime.bigint() + BigInt(seconds * 1e9);
  let count = 0;
  await Promise.all(Array.from({length: 64}, async () => {
    const buffer = Buffer.alloc(4096);
    while (process.hrtime.bigint() < end) {
      await file.read(buffer, 0, 4096, Math.floor(Math.random() * blocks) * 4096);
      count++;
    }
  }));
  console.log(Math.round(count / seconds));
})();
