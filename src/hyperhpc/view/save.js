// Save the text of the data source `file` as a file
const [text] = file.data.text;
const link = document.createElement("a");
link.href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
link.download = "spectra.csv";
link.click();
setTimeout(() => URL.revokeObjectURL(link.href), 1000);
