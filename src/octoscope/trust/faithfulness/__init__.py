"""Whether what a map marks is what the model uses: pixels are taken away or put back."""
