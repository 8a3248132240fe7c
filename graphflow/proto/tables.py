"""Field numbers of the public TensorFlow 1.15 messages, as facts: a line for each message.

`name=number:type`, `type*` is repeated, `{key:type}` a map, `oneof{...}` a choice of which one is set at a time.
"""
from __future__ import annotations

MESSAGES = {
    # records of training data
    "Example": "features=1:Features",
    "SequenceExample": "context=1:Features feature_lists=2:FeatureLists",
    "Features": "feature=1:{string:Feature}",
    "Feature": "kind{bytes_list=1:BytesList float_list=2:FloatList int64_list=3:Int64List}",
    "FeatureList": "feature=1:Feature*",
    "FeatureLists": "feature_list=1:{string:FeatureList}",
    "BytesList": "value=1:bytes*",
    "FloatList": "value=1:float*",
    "Int64List": "value=1:int64*",
    # event files
    "Event": "wall_time=1:double step=2:int64 what{file_version=3:string graph_def=4:bytes summary=5:Summary log_message=6:LogMessage "
             "session_log=7:SessionLog tagged_run_metadata=8:TaggedRunMetadata meta_graph_def=9:bytes}",
    "LogMessage": "level=1:LogMessage.Level message=2:string",
    "SessionLog": "status=1:SessionLog.SessionStatus checkpoint_path=2:string msg=3:string",
    "TaggedRunMetadata": "tag=1:string run_metadata=2:bytes",
    "Summary": "value=1:Summary.Value*",
    "Summary.Value": "node_name=7:string tag=1:string metadata=9:SummaryMetadata value{simple_value=2:float "
                     "obsolete_old_style_histogram=3:bytes image=4:Summary.Image histo=5:HistogramProto audio=6:Summary.Audio "
                     "tensor=8:TensorProto}",
    "Summary.Image": "height=1:int32 width=2:int32 colorspace=3:int32 encoded_image_string=4:bytes",
    "Summary.Audio": "sample_rate=1:float num_channels=2:int64 length_frames=3:int64 encoded_audio_string=4:bytes content_type=5:string",
    "SummaryDescription": "type_hint=1:string",
    "SummaryMetadata": "plugin_data=1:SummaryMetadata.PluginData display_name=2:string summary_description=3:string",
    "SummaryMetadata.PluginData": "plugin_name=1:string content=2:bytes",
    "HistogramProto": "min=1:double max=2:double num=3:double sum=4:double sum_squares=5:double bucket_limit=6:double* bucket=7:double*",
    # tensors and graphs
    "TensorShapeProto": "dim=2:TensorShapeProto.Dim* unknown_rank=3:bool",
    "TensorShapeProto.Dim": "size=1:int64 name=2:string",
    "TensorProto": "dtype=1:DataType tensor_shape=2:TensorShapeProto version_number=3:int32 tensor_content=4:bytes half_val=13:int32* "
                   "float_val=5:float* double_val=6:double* int_val=7:int32* string_val=8:bytes* scomplex_val=9:float* "
                   "int64_val=10:int64* bool_val=11:bool* dcomplex_val=12:double* uint32_val=16:uint32* uint64_val=17:uint64*",
    "GraphDef": "node=1:NodeDef* versions=4:VersionDef version=3:int32 library=2:FunctionDefLibrary",
    "NodeDef": "name=1:string op=2:string input=3:string* device=4:string attr=5:{string:AttrValue} "
               "experimental_debug_info=6:NodeDef.ExperimentalDebugInfo",
    "NodeDef.ExperimentalDebugInfo": "original_node_names=1:string* original_func_names=2:string*",
    "AttrValue": "value{s=2:bytes i=3:int64 f=4:float b=5:bool type=6:DataType shape=7:TensorShapeProto tensor=8:TensorProto "
                 "list=1:AttrValue.ListValue func=10:NameAttrList placeholder=9:string}",
    "AttrValue.ListValue": "s=2:bytes* i=3:int64* f=4:float* b=5:bool* type=6:DataType* shape=7:TensorShapeProto* tensor=8:TensorProto* "
                           "func=9:NameAttrList*",
    "NameAttrList": "name=1:string attr=2:{string:AttrValue}",
    "VersionDef": "producer=1:int32 min_consumer=2:int32 bad_consumers=3:int32*",
    "FunctionDefLibrary": "function=1:FunctionDef* gradient=2:GradientDef*",
    "FunctionDef": "signature=1:OpDef attr=5:{string:AttrValue} node_def=3:NodeDef* ret=4:{string:string} control_ret=6:{string:string}",
    "GradientDef": "function_name=1:string gradient_func=2:string",
    "OpDef": "name=1:string input_arg=2:OpDef.ArgDef* output_arg=3:OpDef.ArgDef* control_output=20:string* attr=4:OpDef.AttrDef* "
             "deprecation=8:OpDeprecation summary=5:string description=6:string is_commutative=18:bool is_aggregate=16:bool "
             "is_stateful=17:bool allows_uninitialized_input=19:bool",
    "OpDef.ArgDef": "name=1:string description=2:string type=3:DataType type_attr=4:string number_attr=5:string type_list_attr=6:string "
                    "is_ref=16:bool",
    "OpDef.AttrDef": "name=1:string type=2:string default_value=3:AttrValue description=4:string has_minimum=5:bool minimum=6:int64 "
                     "allowed_values=7:AttrValue",
    "OpDeprecation": "version=1:int32 explanation=2:string",
    # saved models
    "TensorInfo": "encoding{name=1:string coo_sparse=4:TensorInfo.CooSparse} dtype=2:DataType tensor_shape=3:TensorShapeProto",
    "TensorInfo.CooSparse": "values_tensor_name=1:string indices_tensor_name=2:string dense_shape_tensor_name=3:string",
    "SignatureDef": "inputs=1:{string:TensorInfo} outputs=2:{string:TensorInfo} method_name=3:string",
    "AssetFileDef": "tensor_info=1:TensorInfo filename=2:string",
    # what a step did
    "RunMetadata": "step_stats=1:StepStats cost_graph=2:CostGraphDef partition_graphs=3:GraphDef*",
    "StepStats": "dev_stats=1:DeviceStepStats*",
    "DeviceStepStats": "device=1:string node_stats=2:NodeExecStats* thread_names=3:{uint32:string}",
    "NodeExecStats": "node_name=1:string all_start_micros=2:int64 op_start_rel_micros=3:int64 op_end_rel_micros=4:int64 "
                     "all_end_rel_micros=5:int64 memory=6:AllocatorMemoryUsed* output=7:NodeOutput* timeline_label=8:string "
                     "scheduled_micros=9:int64 thread_id=10:uint32 referenced_tensor=11:AllocationDescription* memory_stats=12:MemoryStats "
                     "all_start_nanos=13:int64 op_start_rel_nanos=14:int64 op_end_rel_nanos=15:int64 all_end_rel_nanos=16:int64 "
                     "scheduled_nanos=17:int64",
    "AllocatorMemoryUsed": "allocator_name=1:string total_bytes=2:int64 peak_bytes=3:int64 live_bytes=4:int64 "
                           "allocation_records=6:AllocationRecord* allocator_bytes_in_use=5:int64",
    "AllocationRecord": "alloc_micros=1:int64 alloc_bytes=2:int64",
    "NodeOutput": "slot=1:int32 tensor_description=3:TensorDescription",
    "TensorDescription": "dtype=1:DataType shape=2:TensorShapeProto allocation_description=4:AllocationDescription",
    "AllocationDescription": "requested_bytes=1:int64 allocated_bytes=2:int64 allocator_name=3:string allocation_id=4:int64 "
                             "has_single_reference=5:bool ptr=6:uint64",
    "MemoryStats": "temp_memory_size=1:int64 persistent_memory_size=3:int64 persistent_tensor_alloc_ids=5:int64* "
                   "device_temp_memory_size=2:int64 device_persistent_memory_size=4:int64 device_persistent_tensor_alloc_ids=6:int64*",
    "CostGraphDef": "node=1:CostGraphDef.Node*",
    "CostGraphDef.Node": "name=1:string device=2:string id=3:int32 input_info=4:CostGraphDef.Node.InputInfo* "
                         "output_info=5:CostGraphDef.Node.OutputInfo* temporary_memory_size=6:int64 persistent_memory_size=12:int64 "
                         "host_temp_memory_size=10:int64 device_temp_memory_size=11:int64 device_persistent_memory_size=16:int64 "
                         "compute_cost=9:int64 compute_time=14:int64 memory_time=15:int64 is_final=7:bool control_input=8:int32* "
                         "inaccurate=17:bool",
    "CostGraphDef.Node.InputInfo": "preceding_node=1:int32 preceding_port=2:int32",
    "CostGraphDef.Node.OutputInfo": "size=1:int64 alias_input_port=2:int64 shape=3:TensorShapeProto dtype=4:DataType",
    # clusters
    "ClusterDef": "job=1:JobDef*",
    "JobDef": "name=1:string tasks=2:{int32:string}",
    "ServerDef": "cluster=1:ClusterDef job_name=2:string task_index=3:int32 default_session_config=4:bytes protocol=5:string",
    # TensorBoard's plugins
    "ProjectorConfig": "model_checkpoint_path=1:string embeddings=2:EmbeddingInfo* model_checkpoint_dir=3:string",
    "EmbeddingInfo": "tensor_name=1:string metadata_path=2:string bookmarks_path=3:string tensor_shape=4:uint32* sprite=5:SpriteMetadata "
                     "tensor_path=6:string",
    "SpriteMetadata": "image_path=1:string single_image_dim=2:uint32*",
}

_PLAIN = ("FLOAT=1 DOUBLE=2 INT32=3 UINT8=4 INT16=5 INT8=6 STRING=7 COMPLEX64=8 INT64=9 BOOL=10 QINT8=11 QUINT8=12 QINT32=13 BFLOAT16=14 "
          "QINT16=15 QUINT16=16 UINT16=17 COMPLEX128=18 HALF=19 RESOURCE=20 VARIANT=21 UINT32=22 UINT64=23")


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, _, number in (item.partition("=") for item in text.split())}


ENUMS = {
    "DataType": {"DT_INVALID": 0, **{f"DT_{k}": v for k, v in _numbers(_PLAIN).items()},
                 **{f"DT_{k}_REF": v + 100 for k, v in _numbers(_PLAIN).items()}},
    "LogMessage.Level": _numbers("UNKNOWN=0 DEBUGGING=10 INFO=20 WARN=30 ERROR=40 FATAL=50"),
    "SessionLog.SessionStatus": _numbers("STATUS_UNSPECIFIED=0 START=1 STOP=2 CHECKPOINT=3"),
}
