// 10,000 timers at once, each for a moment of its own, ten times over: how late they are, in µs, p50 and p99.
const [COUNT, ROUNDS, ROUND] = [10000, 10, 500];
const late = [];
const begin = performance.now() + 200;
async function task(i) {
  for (let round = 1; round <= ROUNDS; round++) {
    const due = begin + (round + i / COUNT) * ROUND;
    // Of milliseconds it takes the whole ones only.
    await new Promise((done) => setTimeout(done, Math.ceil(due - performance.now())));
    late.push(performance.now() - due);
  }
}
Promise.all(Array.from({length: COUNT}, (_, i) => task(i + 1))).then(() => {
  late.sort((a, b) => a - b);
  const at = (part) => Math.round(late[Math.floor(late.length * part)] * 1000);
  console.log(at(0.5), at(0.99));
});
