"""Every sentence of the card, in English and in Chinese. No sentence holds a measured number."""

from typing import Literal

Language = Literal["en", "zh"]

TEXTS: dict[str, tuple[str, str]] = {
    # headings
    "title": ("{model} on {device}", "{model} 在 {device} 上的运行验证"),
    "introduction": ("Introduction", "简介"),
    "configuration": ("Key configuration", "关键配置"),
    "environment": ("Verified environment", "验证环境"),
    "architecture": ("Architecture and operator compatibility", "模型结构与算子兼容性"),
    "modules": ("Modules", "模块组成"),
    "adaptation": ("What running on this device needs", "设备适配要点"),
    "operators": ("Operators", "算子情况"),
    "how_to_run": ("How to run", "运行方法"),
    "smoke": ("Smoke results", "冒烟测试结果"),
    "log": ("Log summary", "日志摘要"),
    "performance": ("Performance", "性能数据"),
    "accuracy": ("Accuracy", "精度数据"),
    "notes": ("Requirements and advice", "使用要求与建议"),
    "hardware": ("Hardware", "硬件需求"),
    "dependencies": ("Dependencies", "软件依赖"),
    "attention": ("Attention kernels", "注意力算子"),
    "ladder": ("If it fails: the fall-back ladder", "失败时的逐级排查"),
    "layout": ("Project layout", "项目目录"),
    "summary": ("Summary", "总结"),
    # introduction
    "about": (
        (
            "{model} is a vision transformer of the InternViT family. This card says what was measured when it ran on {device} "
            "with ivit-helpers. Every number below comes from the records of these runs. What was not measured is left out, "
            "and the card says so."
        ),
        (
            "{model} 属于 InternViT 系列视觉 Transformer。本卡片给出使用 ivit-helpers 在 {device} 上运行时的实测结果，"
            "文中所有数值均取自运行记录；没有测量的项目不给出数值，并注明“未测量”。"
        ),
    ),
    "shape": (
        (
            "It takes images of {side} × {side} pixels in patches of {patch} × {patch}. The network has {parameters} "
            "parameters. Classification head: {head}."
        ),
        "输入图像为 {side} × {side} 像素，切分为 {patch} × {patch} 的图块；网络共有 {parameters} 个参数。分类头：{head}。",
    ),
    "shape_without_patch": (
        "It takes images of {side} × {side} pixels. The network has {parameters} parameters. Classification head: {head}.",
        "输入图像为 {side} × {side} 像素；网络共有 {parameters} 个参数。分类头：{head}。",
    ),
    "random_head": (
        " The head is random: it only shows that the pipeline works.",
        "（分类头为随机初始化，只用于验证流程。）",
    ),
    "weights_from": ("Weights: {source}", "权重来源：{source}"),
    "limits": ("What limits these results, as recorded:", "运行记录中注明的限制（原文）："),
    # words
    "item": ("item", "项目"),
    "value": ("value", "数值"),
    "component": ("component", "组件"),
    "version": ("version", "版本"),
    "module": ("module", "模块"),
    "what": ("what it is", "说明"),
    "status": ("result", "结果"),
    "detail": ("detail, as recorded", "详情（记录原文）"),
    "original": ("published code", "原始实现"),
    "here": ("here", "本项目"),
    "check": ("check", "检查项"),
    "passed": ("passed", "通过"),
    "failed": ("failed", "未通过"),
    "skipped": ("not judged", "未判定"),
    "not_judged": ("not judged", "未判定"),
    "incomplete": ("did not finish", "未完成"),
    "missing": ("not measured", "未测量"),
    "not_measured": ("Not measured in these runs.", "本次运行未测量此项。"),
    "device_column": ("device", "设备"),
    "implementation": ("implementation", "实现"),
    "dtype": ("dtype", "精度格式"),
    "batch": ("batch size", "批大小"),
    "throughput": ("images/s", "吞吐量（张/秒）"),
    "interval": ("95 % interval", "95 % 置信区间"),
    "ms": ("ms/image", "延迟（毫秒/张）"),
    "error": ("relative error", "相对误差"),
    "peak": ("peak memory", "显存或内存峰值"),
    "failed_with": ("failed with", "失败原因"),
    "steady": ("steady", "计时稳定"),
    "yes": ("yes", "是"),
    "no": ("no", "否"),
    "metric": ("measure", "指标"),
    "seen": ("measured peak", "实测占用峰值"),
    "verified": ("on the verified machine", "验证机器配置"),
    # environment and configuration
    "these_runs_dtype": ("dtype of these runs", "本次运行的精度格式"),
    "device": ("Device", "设备"),
    "device_memory_bytes": ("Device memory", "设备显存"),
    "host": ("Host", "主机"),
    "host_cores": ("Host cores", "主机核数"),
    "host_memory_bytes": ("Host memory", "主机内存"),
    "torch": ("PyTorch", "PyTorch"),
    "cann": ("CANN", "CANN"),
    "driver": ("Driver", "驱动"),
    "one_card": ("One logical device was used: {device}.", "使用一个逻辑设备：{device}。"),
    "model_parameter": ("`model` parameter: `{model}`", "模型参数 `model`：`{model}`"),
    # modules
    "embeddings": ("patch, position and class embeddings", "图块嵌入、位置嵌入与类别标记"),
    "encoder": (
        "{layers} transformer blocks, each with residual connections and layer scale",
        "{layers} 个 Transformer 块，带残差连接与层缩放",
    ),
    "attention_module": (
        "multi-head self-attention; queries and keys are normalised over all heads",
        "多头自注意力；查询与键在拆分各头之前归一化",
    ),
    "mlp": ("two linear layers with an exact GELU between them", "两个线性层，中间为精确形式的 GELU"),
    # adaptation
    "move": ("network on the device", "网络移至设备"),
    "inputs": ("inputs on the device", "输入移至设备"),
    "format": ("number format", "数值格式"),
    "no_flash": ("optional, CUDA only", "可选，仅支持 CUDA"),
    "kernels_here": ("`{kernels}` kernels", "使用 `{kernels}` 算子"),
    "drop_path": ("stochastic depth", "随机深度"),
    "drop_path_there": (
        "reads a tensor's value while the network is built, which fails on meta tensors",
        "构建网络时读取张量数值，在 meta 张量上会报错",
    ),
    "drop_path_here": (
        "left out, because inference does not use it; no code from the weights folder runs",
        "推理不需要，已省去；不执行权重目录中的任何代码",
    ),
    "all_on_device": ("Every operator ran on the device.", "全部算子均在设备上执行。"),
    "fell_back": ("These operators ran on the CPU instead: {names}.", "以下算子退回 CPU 执行：{names}。"),
    "operators_used": (
        (
            "The network uses a convolution, linear layers, RMSNorm or LayerNorm, GELU and softmax attention, and no operator "
            "written for CUDA alone."
        ),
        "网络只用到卷积、线性层、RMSNorm 或 LayerNorm、GELU 与 softmax 注意力，不含仅支持 CUDA 的自定义算子。",
    ),
    "compatible": ("Operator compatibility: {status}.", "算子兼容性：{status}。"),
    # how to run
    "download": ("Weights can come from the hub or a mirror of it:", "权重可以从模型站或其镜像下载："),
    "check_first": ("What would keep a run from starting:", "先检查能否运行："),
    "one_image": ("One image of your own:", "单张图像推理："),
    "these_runs": ("The commands of these runs:", "本次运行所用命令："),
    # smoke checks
    "check:configuration": ("config.json is understood", "config.json 解析"),
    "check:image size": ("processor and network agree on the image size", "处理器与网络的图像尺寸一致"),
    "check:weights": ("weights are loaded", "权重加载"),
    "check:forward pass": ("first and steady forward pass", "首次与稳定前向推理"),
    "check:every operator runs on the device": ("every operator runs on the device", "全部算子在设备上执行"),
    "check:features": ("shape and dtype of the features", "特征形状与格式"),
    "check:all features finite": ("all features are finite", "特征值均为有限数"),
    "check:a real image": ("a real image", "真实图像推理"),
    "check:agreement with the reference": ("agreement with the reference", "与参考结果一致"),
    "check:each block alone": ("each block alone", "逐块数值检查"),
    "check:notebook ran to its end": ("the notebook ran to its end", "笔记本完整执行"),
    # accuracy
    "tool": ("Tool", "评测工具"),
    "set": ("Image set", "数据集"),
    "images": ("Images", "图像数"),
    "scored": ("Scored images", "计分图像数"),
    "batch_size": ("Batch size", "批大小"),
    "head": ("Classification head", "分类头"),
    "trained": ("trained", "已训练"),
    "random": ("random", "随机初始化"),
    "mean_batch": ("Mean batch time, the first batch included", "平均批耗时（含首批）"),
    "median_batch": ("Median batch time", "批耗时中位数"),
    "pipeline_only": (
        "The head is random or the images have no labels: these figures only show that the pipeline works.",
        "分类头为随机初始化或图像没有标签：上述数值只说明流程可用，不代表模型精度。",
    ),
    # requirements
    "cards": ("devices", "设备数"),
    "one": ("one", "一个"),
    "device_memory": ("memory of the device", "单卡显存"),
    "host_memory": ("memory of the host", "主机内存"),
    "weights_take": ("The weights alone take {bytes} in {dtype}.", "仅权重以 {dtype} 存放需占用 {bytes}。"),
    "at_least": (
        "Plan for more than the measured peak: other batch sizes take more.",
        "显存与内存应大于实测峰值；更大的批会占用更多。",
    ),
    "largest_batch": ("The largest batch that fits is {batch}.", "可容纳的最大批为 {batch}。"),
    "install": (
        "torch-npu must fit the CANN of the machine; it brings the torch that it needs.",
        "torch-npu 的版本须与机器上的 CANN 对应，并会安装与之匹配的 torch。",
    ),
    "key_packages": ("Versions of these runs: {packages}.", "本次运行的版本：{packages}。"),
    "attention_is": (
        (
            "The flash attention package is not needed. These runs used `{kernels}` kernels. A fused kernel is compared with "
            "the plain one before it is used, and the plain one takes its place where they disagree."
        ),
        "无需安装 Flash Attention。本次运行使用 `{kernels}` 算子。融合算子在启用前先与普通实现对照，不一致时改用普通实现。",
    ),
    "step_again": ("Run it once more: does it fail in the same way?", "再运行一次，确认失败是否可重现"),
    "step_device": ("Look at the device: {command}", "查看设备状态：{command}"),
    "step_dtype": ("Compute in float32: {command}", "改用 float32 计算：{command}"),
    "step_batch": ("Make the batch smaller: {command}", "减小批大小：{command}"),
    "step_fix": (
        "Correct the cause that the report names, and begin again at the first step",
        "按报告指出的原因修复，然后从第一步重新开始",
    ),
    "ladder_alone": (
        "The smoke notebook climbs these steps by itself when a forward pass fails, and reports what helped.",
        "前向推理失败时，smoke 笔记本会自动执行这些步骤并报告有效的一步。",
    ),
    "diagnosed": ("What was tried in these runs:", "本次运行中的尝试："),
    # layout
    "layout:notebooks/": ("smoke, benchmark, accuracy, explore and compare", "冒烟、性能、精度、观察与对比笔记本"),
    "layout:ivit_helpers/": ("the code that the notebooks call; the ivit command", "笔记本调用的代码与 ivit 命令"),
    "layout:data/": ("an embedded miniature and images; published figures", "内置微型模型、图像与已公布数据"),
    "layout:reports/": (
        "one folder for each run: page (HTML), record (JSON), tables (CSV)",
        "每次运行一个目录：网页、记录与表格",
    ),
    "layout:tools/": ("scripts for people who work on the project", "开发用脚本"),
    "layout:tests/": ("tests", "测试"),
    "layout:pyproject.toml": ("dependencies", "依赖列表"),
    "layout:README.md": ("how to use it", "使用说明"),
    "files": ("What these runs left:", "本次运行产生的文件："),
    # summary
    "sum:operators": ("operator compatibility", "算子兼容性"),
    "sum:weights": ("loading the weights", "权重加载"),
    "sum:forward pass": ("forward pass in {dtype}", "{dtype} 前向推理"),
    "sum:agreement": ("agreement with the reference", "数值一致性"),
    "sum:benchmark": ("benchmark", "性能测试"),
    "sum:accuracy": ("accuracy evaluation", "精度评测"),
    "all_good": ("Nothing failed in these runs of {model} on {device}.", "{model} 在 {device} 上的各项运行均无失败。"),
    "not_good": ("Not everything worked: {reasons}", "存在未通过的项目：{reasons}"),
    "part_unjudged": (
        "Parts are not judged or not measured; the table says which.",
        "部分项目未判定或未测量，见上表。",
    ),
}
