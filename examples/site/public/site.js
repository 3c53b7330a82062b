const events = new EventSource("clock");
events.addEventListener("tick", (event) => {
  document.getElementById("clock").textContent = event.data;
});

fetch("about").then(async (answer) => {
  document.getElementById("about").textContent = await answer.text();
});
