class CsvDataset: pass
def make_csv_dataset(): pass
