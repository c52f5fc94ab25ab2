//! Who works at the call centre, who calls it, and from where. All invented.

use rand::{
    Rng, RngExt,
    seq::{IndexedRandom, index},
};

#[derive(Clone, Copy)]
pub(super) struct Group {
    pub id: i64,
    pub name: &'static str,
    /// What the IVR offers for it.
    pub key: &'static str,
}

pub(super) const GROUPS: &[Group] = &[
    Group { id: 1072, name: "售后服务", key: "1" },
    Group { id: 1073, name: "售前咨询", key: "2" },
    Group { id: 1074, name: "技术支持", key: "3" },
    Group { id: 1080, name: "投诉受理", key: "4" },
    Group { id: 1091, name: "VIP 专线", key: "5" },
];

pub(super) struct Agent {
    pub login: &'static str,
    pub name: &'static str,
    pub nick: &'static str,
    /// Staff numbers are text with leading zeros.
    pub staff_number: &'static str,
    /// Picks up at this mobile phone instead of the browser.
    pub phone: &'static str,
}

pub(super) const AGENTS: &[Agent] = &[
    Agent::at_desk("wang.xiuying", "王秀英", "小英", "0007"),
    Agent::at_desk("li.na", "李娜", "娜娜", "0012"),
    Agent::at_desk("zhang.wei", "张伟", "大伟", "0015"),
    Agent::at_desk("liu.yang", "刘洋", "洋洋🌊", "0021"),
    Agent { phone: "008615490000101", ..Agent::at_desk("chen.jing", "陈静", "静静", "0034") },
    Agent::at_desk("yang.guang", "杨光", "阳光", "0038"),
    Agent::at_desk("zhao.min", "赵敏", "敏敏", "0040"),
    Agent::at_desk("ouyang.xue", "欧阳雪", "小雪", "0052"),
    Agent { phone: "008615490000102", ..Agent::at_desk("zhou.jie", "周杰", "阿杰", "0061") },
    Agent::at_desk("wu.lei", "吴磊", "石头", "0066"),
    Agent::at_desk("xu.qiang", "徐强", "强子", "0073"),
    Agent::at_desk("sun.li", "孙丽", "丽丽", "0088"),
];

impl Agent {
    const fn at_desk(
        login: &'static str,
        name: &'static str,
        nick: &'static str,
        staff_number: &'static str,
    ) -> Self {
        Self { login, name, nick, staff_number, phone: "" }
    }

    pub fn mail(&self) -> String {
        format!("{}@example.com", self.login)
    }

    /// `Type` of the stretches that this agent serves.
    pub fn kind(&self) -> &'static str {
        if self.phone.is_empty() { "staffSeat" } else { "staffPhoneSeat" }
    }
}

/// Agents of whom no two are the same; at most as many as there are.
pub(super) fn agents<const N: usize>(rng: &mut impl Rng) -> [&'static Agent; N] {
    const { assert!(N <= AGENTS.len()) };
    index::sample_array(rng, AGENTS.len()).unwrap_or([0; N]).map(|agent| &AGENTS[agent])
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    pub province: &'static str,
    pub city: &'static str,
}

pub(super) const PLACES: &[Place] = &[
    Place { province: "广东", city: "深圳" },
    Place { province: "广东", city: "广州" },
    Place { province: "上海", city: "上海" },
    Place { province: "北京", city: "北京" },
    Place { province: "浙江", city: "杭州" },
    Place { province: "四川", city: "成都" },
    Place { province: "湖北", city: "武汉" },
    Place { province: "内蒙古", city: "呼和浩特" },
];

pub(super) const OPERATORS: &[&str] = &["移动", "联通", "电信", "广电"];

pub(super) const SATISFACTION: &[(&str, &str)] =
    &[("1", "非常满意"), ("1", "非常满意"), ("2", "满意"), ("3", "一般"), ("4", "不满意")];

pub(super) const REMARKS: &[&str] = &[
    "客户咨询退货流程，已告知七天无理由退货政策，短信发送链接。",
    "报修：屏幕不亮，已登记工单，工程师明日 14:00-16:00 上门。",
    "询问发票抬头修改，已转财务处理，两个工作日内回复客户。",
    "客户情绪激动😡，要求主管回电，已记录并升级投诉处理。",
    "已回访，客户对处理结果满意👍，工单关闭。",
    "Customer asked for an English invoice; sent by e-mail.",
    "订单号 20261102-8812，物流停滞三天，已联系承运商催件\t(急)。",
];

/// A customer's number: 0086, and the mobile prefix 154 that was never given to a carrier.
pub(super) fn customer(rng: &mut impl Rng) -> String {
    format!("0086154{:08}", rng.random_range(0..30_000))
}

/// One of the centre's lines: local numbers that begin with 0, as no real one does.
pub(super) fn line(rng: &mut impl Rng) -> String {
    format!("008607550000{:04}", rng.random_range(0..20))
}

/// One of a list that is not empty.
pub(super) fn one_of<T: Copy>(rng: &mut impl Rng, list: &[T]) -> T {
    *list.choose(rng).unwrap_or(&list[0])
}
