FixedLengthRecordDataset = TextLineDataset = TFRecordDataset = None
